"""Rules of layers with weights: dense layers, convolutions, batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audit.bounds.graph import Affine
from audit.bounds.trace import Recorder

aten = torch.ops.aten


def _dense(recorder: Recorder, x: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor) -> int:
    """x W + b, for x (R, D) or (R, ..., D)."""
    source = recorder.position(x)
    if source is None or recorder.position(weight) is not None:
        raise recorder.refused("a product of two values of the net")
    sizes, columns = weight.abs(), weight.t()
    operation = Affine(
        lambda t: t @ weight,
        lambda a: [a @ columns],
        lambda t: t @ sizes,
        None if bias is None else bias.view((1,) * (output.ndim - bias.ndim) + tuple(bias.shape)),
        None,
        weight.shape[0] + 1,
    )
    return recorder.add(operation, [source], output.shape[1:])


def _dense_with_bias(recorder: Recorder, output: Tensor, bias: Tensor, x: Tensor, weight: Tensor, **scales: Any) -> int:
    if recorder.position(bias) is not None or scales:
        raise recorder.refused("'addmm' of values of the net")
    return _dense(recorder, x, weight, bias, output)


def _dense_without_bias(recorder: Recorder, output: Tensor, x: Tensor, weight: Tensor) -> int:
    return _dense(recorder, x, weight, None, output)


def _convolution(
    recorder: Recorder,
    output: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> int:
    source = recorder.position(x)
    if source is None or recorder.position(weight) is not None:
        raise recorder.refused("a convolution with computed weights")
    shape, sizes = recorder.graph.nodes[source].shape, weight.abs()
    settings = (stride, padding, dilation, transposed, output_padding, groups)

    def through(w: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda t: aten.convolution(t, w, None, *settings)

    def transpose(a: Tensor) -> list[Tensor]:
        return [_TransposedConvolution.apply(a, weight, shape, settings)]

    terms = (
        math.prod(weight.shape[1:]) + 1
        if not transposed
        else weight.shape[0] // groups * math.prod(weight.shape[2:]) + 1
    )
    offset = None if bias is None else bias.view(1, -1, *(1,) * (output.ndim - 2))
    return recorder.add(
        Affine(through(weight), transpose, through(sizes), offset, None, terms), [source], output.shape[1:]
    )


class _TransposedConvolution(torch.autograd.Function):
    """The transposed map of any convolution, by the kernel of its backward; its own derivative is the convolution."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, weight: Tensor, shape: tuple[int, ...], settings: tuple[Any, ...]
    ) -> Tensor:
        ctx.weight, ctx.settings = weight, settings
        like = coefficients.new_empty(1).expand(len(coefficients), *shape)
        gradient: Tensor = aten.convolution_backward(
            coefficients.contiguous(), like, weight, None, *settings, [True, False, False]
        )[0]
        return gradient

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return aten.convolution(gradient, ctx.weight, None, *ctx.settings), None, None, None


def _batch_norm(
    recorder: Recorder,
    output: Any,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    *rest: Any,
) -> list[int]:
    """Batch norm in eval mode: (x - mean) / sqrt(variance + eps) * weight + bias."""
    training, eps = (rest[0], rest[-1]) if isinstance(rest[0], bool) else (False, rest[-1])
    if training or mean is None or variance is None:
        raise recorder.refused("batch norm without running statistics")
    source = recorder.position(x)
    assert source is not None
    view = (1, -1, *(1,) * (x.ndim - 2))
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale
    offset, size = (shift, shift.abs()) if bias is None else (shift + bias, shift.abs() + bias.abs())
    factor = scale.view(view)
    operation = Affine(
        lambda t: t * factor,
        lambda a: [a * factor],
        lambda t: t * factor.abs(),
        offset.view(view),
        size.view(view),
        8,
    )
    return [recorder.add(operation, [source], x.shape[1:])]


WEIGHTED_RULES: dict[str, Callable[..., Any]] = {
    "addmm": _dense_with_bias,
    "mm": _dense_without_bias,
    "convolution": _convolution,
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm"),
        _batch_norm,
    ),
}
"""By the name of an operation in `torch.ops.aten`."""
