"""The operations that bounds can go through, by their names in torch, as affine maps and activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.bounds.activations import RELU, SIGMOID, TANH, Activation, elu, softplus
from audit.bounds.graph import Affine
from audit.bounds.maxima import clamped, leaky, magnitude, max_pooled, maximum
from audit.bounds.trace import TRACED, Recorder

Rule = Callable[..., Any]
aten = torch.ops.aten


def linear_map(function: Callable[..., Tensor], shapes: Sequence[Sequence[int]], **options: Any) -> Affine:
    """A map without negative coefficients and weights: views, sums, means and their like.

    Args:
        function: Tensors (R, ...) to a tensor (R, ...), linear.
        shapes: Of the inputs, without the batch.
        options: Fields of `Affine`.
    """

    def transpose(coefficients: Tensor) -> Sequence[Tensor]:
        with torch.enable_grad():
            zeros = [coefficients.new_zeros(len(coefficients), *shape).requires_grad_() for shape in shapes]
            outputs = function(*zeros)
        return torch.autograd.grad(outputs, zeros, coefficients, create_graph=torch.is_grad_enabled())

    return Affine(function, transpose, **options)


def _shape(recorder: Recorder, position: int) -> tuple[int, ...]:
    return recorder.graph.nodes[position].shape


def _constant(value: Any, ndim: int) -> Tensor | float:
    """A constant operand with a leading 1 where it has a leading batch."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.ndim == ndim and len(value) == TRACED and bool((value == value[:1]).all()):
        return value[:1]
    return value


def _reshaped(recorder: Recorder, output: Tensor, x: Tensor, *_: Any, **__: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    before, after = _shape(recorder, source), tuple(output.shape[1:])
    if before == after:
        return source
    operation = Affine(lambda t: t.reshape(len(t), *after), lambda a: [a.reshape(len(a), *before)])
    return recorder.add(operation, [source], after)


def _same(recorder: Recorder, output: Tensor, x: Tensor, *_: Any, **__: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    return source


def _softmax(recorder: Recorder, output: Tensor, x: Tensor, dim: int, *_: Any) -> None:
    position = recorder.position(x)
    assert position is not None
    if x.ndim != 2 or dim % 2 != 1:
        raise recorder.refused("a softmax that is not over the classes")
    recorder.end(output, position)


def _permuted(recorder: Recorder, output: Tensor, order: Sequence[int], x: Tensor) -> int:
    source = recorder.position(x)
    assert source is not None
    if order[0] != 0:
        raise recorder.refused("a transposition of the batch")
    inverse = [list(order).index(i) for i in range(len(order))]
    operation = Affine(lambda t: t.permute(list(order)), lambda a: [a.permute(inverse)])
    return recorder.add(operation, [source], output.shape[1:])


def _permute(recorder: Recorder, output: Tensor, x: Tensor, dims: Sequence[int]) -> int:
    return _permuted(recorder, output, [d % x.ndim for d in dims], x)


def _transpose(recorder: Recorder, output: Tensor, x: Tensor, first: int, second: int) -> int:
    order = list(range(x.ndim))
    order[first % x.ndim], order[second % x.ndim] = order[second % x.ndim], order[first % x.ndim]
    return _permuted(recorder, output, order, x)


def _plain(name: str, terms: Callable[..., int] = lambda *_: 0) -> Rule:
    """An operation on one tensor that is linear, without negative coefficients, and gives one tensor an image."""

    def rule(recorder: Recorder, output: Any, x: Tensor, *args: Any, **kwargs: Any) -> int | list[int]:
        source = recorder.position(x)
        assert source is not None
        function = getattr(aten, name)

        def operation(index: int | None) -> Affine:
            def apply(t: Tensor) -> Tensor:
                result = function(t, *args, **kwargs)
                picked: Tensor = result if index is None else result[index]
                return picked

            return linear_map(apply, [_shape(recorder, source)], terms=terms(x, *args))

        if isinstance(output, Tensor):
            return recorder.add(operation(None), [source], output.shape[1:])
        return [recorder.add(operation(k), [source], part.shape[1:]) for k, part in enumerate(output)]

    return rule


def _padded(recorder: Recorder, output: Tensor, x: Tensor, pad: Sequence[int], value: float = 0) -> Any:
    if value != 0:
        raise recorder.refused("a padding with other values than 0")
    return _plain("constant_pad_nd")(recorder, output, x, pad)


def _expand(recorder: Recorder, output: Tensor, x: Tensor, size: Sequence[int], **_: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    shape = tuple(output.shape[1:])
    if x.ndim != output.ndim:
        raise recorder.refused("an expansion across images")
    return recorder.add(linear_map(lambda t: t.expand(len(t), *shape), [_shape(recorder, source)]), [source], shape)


def _joined(recorder: Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0, *, stack: bool = False) -> int:
    positions = [recorder.position(t) for t in tensors]
    constants = [None if p is not None else t[:1] for p, t in zip(positions, tensors, strict=True)]
    used = [p for p in positions if p is not None]
    axis = dim % output.ndim

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts), axis) if stack else torch.cat(list(parts), axis)

    def function(*inputs: Tensor) -> Tensor:
        rest, rows = iter(inputs), len(inputs[0])
        return join(
            [
                next(rest) if c is None else torch.zeros_like(c, dtype=inputs[0].dtype).expand(rows, *c.shape[1:])
                for c in constants
            ]
        )

    offset = None
    if any(c is not None for c in constants):
        offset = join([t[:1] if c is not None else torch.zeros_like(t[:1]) for c, t in zip(constants, tensors, strict=True)])
    shapes = [_shape(recorder, p) for p in used]
    return recorder.add(linear_map(function, shapes, offset=offset), used, output.shape[1:])


def _stacked(recorder: Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> int:
    return _joined(recorder, output, tensors, dim, stack=True)


def _sum(sign: float) -> Rule:
    """x + alpha y or x - alpha y, of two values or a value and a constant."""

    def rule(recorder: Recorder, output: Tensor, x: Any, y: Any, *, alpha: float = 1) -> int:
        return add_scaled(recorder, output, x, y, 1.0, sign * alpha)

    return rule


def _reverse_subtract(recorder: Recorder, output: Tensor, x: Any, y: Any, alpha: float = 1) -> int:
    return add_scaled(recorder, output, y, x, 1.0, -float(alpha))


def add_scaled(recorder: Recorder, output: Tensor, x: Any, y: Any, a: float, b: float) -> int:
    """The value a x + b y.

    Args:
        recorder: Holds the graph.
        output: What it is on the traced images.
        x: A value or a constant.
        y: A value or a constant; not both are constants.
        a: Factor of x.
        b: Factor of y.
    """
    sources = [(recorder.position(x), a, x), (recorder.position(y), b, y)]
    used = [(p, f) for p, f, _ in sources if p is not None]
    constants = [f * _as(output, _constant(v, output.ndim)) for p, f, v in sources if p is None]
    shape = tuple(output.shape[1:])
    factors = [f for _, f in used]

    def function(*inputs: Tensor, scale: Callable[[float], float] = float) -> Tensor:
        total = inputs[0] * scale(factors[0])
        for other, factor in zip(inputs[1:], factors[1:], strict=True):
            total = total + other * scale(factor)
        return total.expand(len(total), *shape)

    operation = linear_map(
        function,
        [_shape(recorder, p) for p, _ in used],
        spread=lambda *inputs: function(*inputs, scale=abs),
        offset=constants[0] if constants else None,
        terms=2 if all(abs(f) == 1 for f in factors) else 3,
    )
    if all(_shape(recorder, p) == shape for p, _ in used):
        operation = Affine(
            operation.linear, lambda c: [c if f == 1 else c * f for f in factors], operation.spread, operation.offset, None, operation.terms
        )
    return recorder.add(operation, [p for p, _ in used], shape)


def _as(output: Tensor, value: Tensor | float) -> Tensor:
    tensor = torch.as_tensor(value, dtype=output.dtype, device=output.device)
    return tensor.view((1,) * (output.ndim - tensor.ndim) + tuple(tensor.shape))


def _scaled(recorder: Recorder, output: Tensor, x: Tensor, factor: Tensor, terms: int = 1) -> int:
    source = recorder.position(x)
    assert source is not None
    shape = tuple(output.shape[1:])
    if _shape(recorder, source) == shape:
        operation = Affine(lambda t: t * factor, lambda a: [a * factor], lambda t: t * factor.abs(), terms=terms)
    else:
        operation = linear_map(
            lambda t: t * factor, [_shape(recorder, source)], spread=lambda t: t * factor.abs(), terms=terms
        )
    return recorder.add(operation, [source], shape)


def _multiply(recorder: Recorder, output: Tensor, x: Any, y: Any) -> int:
    if recorder.position(x) is not None and recorder.position(y) is not None:
        raise recorder.refused("a product of two values of the net")
    value, constant = (x, y) if recorder.position(x) is not None else (y, x)
    return _scaled(recorder, output, value, _as(output, _constant(constant, output.ndim)))


def _divide(recorder: Recorder, output: Tensor, x: Any, y: Any, **kwargs: Any) -> int:
    if recorder.position(y) is not None or kwargs:
        raise recorder.refused("a division by a value of the net")
    return _scaled(recorder, output, x, 1 / _as(output, _constant(y, output.ndim)), terms=2)


def _negate(recorder: Recorder, output: Tensor, x: Tensor) -> int:
    return _scaled(recorder, output, x, -torch.ones((1,) * output.ndim, dtype=output.dtype, device=output.device), 0)


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


def _addmm(recorder: Recorder, output: Tensor, bias: Tensor, x: Tensor, weight: Tensor, **scales: Any) -> int:
    if recorder.position(bias) is not None or scales:
        raise recorder.refused("'addmm' of values of the net")
    return _dense(recorder, x, weight, bias, output)


def _mm(recorder: Recorder, output: Tensor, x: Tensor, weight: Tensor) -> int:
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
    shape, sizes = _shape(recorder, source), weight.abs()
    settings = (stride, padding, dilation, transposed, output_padding, groups)

    def through(w: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda t: aten.convolution(t, w, None, *settings)

    def transpose(a: Tensor) -> list[Tensor]:
        return [_TransposedConvolution.apply(a, weight, shape, settings)]  # type: ignore[no-untyped-call]

    terms = math.prod(weight.shape[1:]) + 1 if not transposed else weight.shape[0] // groups * math.prod(weight.shape[2:]) + 1
    offset = None if bias is None else bias.view(1, -1, *(1,) * (output.ndim - 2))
    return recorder.add(Affine(through(weight), transpose, through(sizes), offset, None, terms), [source], output.shape[1:])


class _TransposedConvolution(torch.autograd.Function):
    """The transposed map of any convolution, by the kernel that its backward uses; its own derivative is the convolution."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, weight: Tensor, shape: tuple[int, ...], settings: tuple[Any, ...]) -> Tensor:
        ctx.weight, ctx.settings = weight, settings
        like = coefficients.new_empty(1).expand(len(coefficients), *shape)
        gradient: Tensor = aten.convolution_backward(
            coefficients.contiguous(), like, weight, None, *settings, [True, False, False]
        )[0]
        return gradient

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
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


def _activation(build: Callable[..., Activation]) -> Rule:
    def rule(recorder: Recorder, output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> int:
        source = recorder.position(x)
        assert source is not None
        return recorder.add(build(recorder, *args, **kwargs), [source], output.shape[1:])

    return rule


def _softplus(recorder: Recorder, beta: float = 1, threshold: float = 20) -> Activation:
    if threshold < 20:
        raise recorder.refused("a softplus with a threshold below 20")
    return softplus(beta)


def _elu(recorder: Recorder, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Activation:
    if not (0 <= alpha <= 1 and scale == input_scale == 1):
        raise recorder.refused("an ELU that is not convex")
    return elu(float(alpha))


def _window(x: Tensor, kernel: Sequence[int], *_: Any) -> int:
    return math.prod(kernel if len(kernel) > 1 else [*kernel, *kernel]) + 1


def _averaged(x: Tensor, size: Sequence[int], *_: Any) -> int:
    return math.prod(-(-a // b) + 1 for a, b in zip(x.shape[-2:], size, strict=True)) + 1


def _summed(x: Tensor, dims: Sequence[int] | None = None, *_: Any) -> int:
    return math.prod(x.shape[d] for d in (dims or range(1, x.ndim))) + 1


RULES: dict[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "_reshape_alias", "flatten"), _reshaped),
    **dict.fromkeys(("detach", "alias", "clone", "_to_copy", "lift_fresh", "contiguous"), _same),
    **dict.fromkeys(("_softmax", "_log_softmax"), _softmax),
    "permute": _permute,
    "transpose": _transpose,
    "expand": _expand,
    "cat": _joined,
    "stack": _stacked,
    **{
        name: _plain(name)
        for name in (
            "slice", "select", "split", "unsafe_split", "split_with_sizes", "unbind",
            "reflection_pad2d", "replication_pad2d", "upsample_nearest2d", "pixel_shuffle", "pixel_unshuffle",
            "channel_shuffle", "flip", "roll", "index_select",
        )
    },
    "constant_pad_nd": _padded,
    "avg_pool2d": _plain("avg_pool2d", _window),
    "_adaptive_avg_pool2d": _plain("_adaptive_avg_pool2d", _averaged),
    "mean": _plain("mean", _summed),
    "sum": _plain("sum", _summed),
    "upsample_bilinear2d": _plain("upsample_bilinear2d", lambda *_: 8),
    "add": _sum(1.0),
    "sub": _sum(-1.0),
    "rsub": _reverse_subtract,
    "mul": _multiply,
    "div": _divide,
    "neg": _negate,
    "addmm": _addmm,
    "mm": _mm,
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "miopen_batch_norm": _batch_norm,
    "relu": _activation(lambda recorder: RELU),
    "sigmoid": _activation(lambda recorder: SIGMOID),
    "tanh": _activation(lambda recorder: TANH),
    "softplus": _activation(_softplus),
    "elu": _activation(_elu),
    "leaky_relu": leaky,
    "_prelu_kernel": leaky,
    "prelu": leaky,
    "abs": magnitude,
    "clamp": clamped,
    "clamp_min": clamped,
    "clamp_max": lambda recorder, output, x, high: clamped(recorder, output, x, None, high),
    "hardtanh": lambda recorder, output, x, low=-1.0, high=1.0: clamped(recorder, output, x, low, high),
    "maximum": maximum(1.0),
    "minimum": maximum(-1.0),
    "max_pool2d_with_indices": max_pooled,
}
"""By name of the operation in `torch.ops.aten`."""
