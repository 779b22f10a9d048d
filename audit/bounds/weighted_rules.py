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
    current = recorder.current(weight)
    view = (1,) * (output.ndim - 1) + (output.shape[-1],)
    operation = Affine(
        lambda t: t @ current(),
        lambda a: [a @ current().t()],
        lambda t: t @ current().abs(),
        None if bias is None else lambda: bias.view(view),
        None,
        weight.shape[0] + 1,
        fan_out=weight.shape[1],
    )
    return recorder.add(operation, [source], output.shape[1:])


def _dense_with_bias(recorder: Recorder, output: Tensor, bias: Tensor, x: Tensor, weight: Tensor, **scales: Any) -> int:
    if recorder.position(bias) is not None or scales:
        raise recorder.refused("'addmm' of values of the net")
    return _dense(recorder, x, weight, bias, output)


def _dense_without_bias(recorder: Recorder, output: Tensor, x: Tensor, weight: Tensor) -> int:
    return _dense(recorder, x, weight, None, output)


def _batched_product(recorder: Recorder, output: Tensor, x: Tensor, y: Tensor) -> int:
    """A matrix times (R, D, E), or (R, D, E) times a matrix, the same for every image."""
    left = recorder.position(x) is None
    matrices, values = (x, y) if left else (y, x)
    source = recorder.position(values)
    if source is None or recorder.position(matrices) is not None or not bool((matrices == matrices[:1]).all()):
        raise recorder.refused("a product of two values of the net")
    matrix = matrices[0]

    def multiply(t: Tensor, factor: Tensor) -> Tensor:
        return factor @ t if left else t @ factor

    operation = Affine(
        lambda t: multiply(t, matrix),
        lambda a: [multiply(a, matrix.t())],
        lambda t: multiply(t, matrix.abs()),
        terms=matrix.shape[1 if left else 0] + 1,
        fan_out=matrix.shape[0 if left else 1],
    )
    return recorder.add(operation, [source], output.shape[1:])


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
    shape, current = recorder.graph.nodes[source].shape, recorder.current(weight)
    settings = (stride, padding, dilation, transposed, output_padding, groups)
    fans = (weight.shape[0] // groups, weight.shape[1])
    fan_in, fan_out = fans if transposed else fans[::-1]
    view = (1, -1, *(1,) * (output.ndim - 2))
    operation = Affine(
        lambda t: aten.convolution(t, current(), None, *settings),
        lambda a: [_TransposedConvolution.apply(a, current(), shape, settings)],
        lambda t: aten.convolution(t, current().abs(), None, *settings),
        None if bias is None else lambda: bias.view(view),
        None,
        fan_in * math.prod(weight.shape[2:]) + 1,
        fan_out=fan_out * math.prod(weight.shape[2:]),
    )
    return recorder.add(operation, [source], output.shape[1:])


class _TransposedConvolution(torch.autograd.Function):
    """The transposed map of any convolution, by the kernel of its backward; its own derivative is the convolution."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, weight: Tensor, shape: tuple[int, ...], settings: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(coefficients, weight)
        ctx.settings = settings
        like = coefficients.new_empty(1).expand(len(coefficients), *shape)
        image: Tensor = aten.convolution_backward(
            coefficients.contiguous(), like, weight, None, *settings, [True, False, False]
        )[0]
        return image

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        coefficients, weight = ctx.saved_tensors
        of_weight: Tensor | None = None
        if ctx.needs_input_grad[1]:
            of_weight = aten.convolution_backward(
                coefficients.contiguous(), gradient.contiguous(), weight, None, *ctx.settings, [False, True, False]
            )[1]
        back: Tensor = aten.convolution(gradient, weight, None, *ctx.settings)
        return back, of_weight, None, None


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

    def scale() -> Tensor:
        factor: Tensor = (variance + eps).rsqrt()
        return factor.view(view) if weight is None else (factor * weight).view(view)

    def offset() -> Tensor:
        shift = -mean.view(view) * scale()
        return shift if bias is None else shift + bias.view(view)

    def size() -> Tensor:
        shift = (mean.view(view) * scale()).abs()
        return shift if bias is None else shift + bias.abs().view(view)

    operation = Affine(lambda t: t * scale(), lambda a: [a * scale()], lambda t: t * scale().abs(), offset, size, 8)
    return [recorder.add(operation, [source], x.shape[1:])]


WEIGHTED_RULES: dict[str, Callable[..., Any]] = {
    "addmm": _dense_with_bias,
    "mm": _dense_without_bias,
    "bmm": _batched_product,
    "convolution": _convolution,
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm"),
        _batch_norm,
    ),
}
"""By the name of an operation in `torch.ops.aten`."""
