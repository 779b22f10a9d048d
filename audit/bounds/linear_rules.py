"""Rules of operations without weights of their own: views, sums, means, joins, products with constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from audit.bounds.graph import Affine
from audit.bounds.linear_map import largest_fan_out, linear_map
from audit.bounds.trace import TRACED, Recorder

OperationRule = Callable[..., Any]


def _itself(value: Tensor) -> Tensor:
    return value


def _shape(recorder: Recorder, position: int) -> tuple[int, ...]:
    return recorder.graph.nodes[position].shape


def _constant(recorder: Recorder, value: Any, ndim: int) -> Tensor | float:
    """A constant operand with a leading 1 where it has a leading batch."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.ndim < ndim or len(value) != TRACED:
        return value
    if not bool((value == value[:1]).all()):
        raise recorder.refused("values that differ between images and that no operation links to them")
    return value[:1]


def _reshaped(recorder: Recorder, output: Tensor, x: Tensor, *_: Any, **__: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    before, after = _shape(recorder, source), tuple(output.shape[1:])
    if before == after:
        return source
    operation = Affine(lambda t: t.reshape(len(t), *after), lambda a: [a.reshape(len(a), *before)])
    return recorder.add(operation, [source], after)


def _unchanged(recorder: Recorder, output: Tensor, x: Tensor, *_: Any, **__: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    return source


def _permuted(recorder: Recorder, output: Tensor, order: Sequence[int], x: Tensor) -> int:
    source = recorder.position(x)
    assert source is not None
    if order[0] != 0:
        raise recorder.refused("a transposition of the batch")
    inverse = [list(order).index(i) for i in range(len(order))]
    operation = Affine(lambda t: t.permute(list(order)), lambda a: [a.permute(inverse)])
    return recorder.add(operation, [source], output.shape[1:])


def _permuted_to(recorder: Recorder, output: Tensor, x: Tensor, dims: Sequence[int]) -> int:
    return _permuted(recorder, output, [d % x.ndim for d in dims], x)


def _transposed(recorder: Recorder, output: Tensor, x: Tensor, first: int, second: int) -> int:
    order = list(range(x.ndim))
    order[first % x.ndim], order[second % x.ndim] = order[second % x.ndim], order[first % x.ndim]
    return _permuted(recorder, output, order, x)


def _plain(name: str, terms: Callable[..., int] = lambda *_: 0, *, mixes: bool = False) -> OperationRule:
    """An operation on one tensor that is linear, without negative coefficients, and gives one tensor an image.

    `mixes` says that its coefficients are neither 1 nor those of a mean.
    """

    def rule(recorder: Recorder, output: Any, x: Tensor, *args: Any, **kwargs: Any) -> int | list[int]:
        source = recorder.position(x)
        assert source is not None
        function = getattr(torch.ops.aten, name)

        def operation(index: int | None) -> Affine:
            def apply(t: Tensor) -> Tensor:
                result = function(t, *args, **kwargs)
                picked: Tensor = result if index is None else result[index]
                return picked

            part = output if index is None else output[index]
            map_ = linear_map(apply, [_shape(recorder, source)], terms=terms(x, *args))
            ones = torch.ones_like(part[:1])
            return replace(
                map_, fan_out=math.prod(part.shape[1:]) if mixes else cache(partial(largest_fan_out, map_, ones))
            )

        if isinstance(output, Tensor):
            return recorder.add(operation(None), [source], output.shape[1:])
        return [recorder.add(operation(k), [source], part.shape[1:]) for k, part in enumerate(output)]

    return rule


def _padded(recorder: Recorder, output: Tensor, x: Tensor, pad: Sequence[int], value: float = 0) -> Any:
    if value != 0:
        raise recorder.refused("a padding with other values than 0")
    return _plain("constant_pad_nd")(recorder, output, x, pad)


def _expanded(recorder: Recorder, output: Tensor, x: Tensor, size: Sequence[int], **_: Any) -> int:
    source = recorder.position(x)
    assert source is not None
    shape = tuple(output.shape[1:])
    if x.ndim != output.ndim:
        raise recorder.refused("an expansion across images")
    before = _shape(recorder, source)
    copies = math.prod(shape) // math.prod(before)
    return recorder.add(linear_map(lambda t: t.expand(len(t), *shape), [before], fan_out=copies), [source], shape)


def _joined(recorder: Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0, *, stack: bool = False) -> int:
    positions = [recorder.position(t) for t in tensors]
    constants = [
        None if p is not None else torch.as_tensor(_constant(recorder, t, t.ndim))
        for p, t in zip(positions, tensors, strict=True)
    ]
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
        offset = join(
            [t[:1] if c is not None else torch.zeros_like(t[:1]) for c, t in zip(constants, tensors, strict=True)]
        )
    shapes = [_shape(recorder, p) for p in used]
    operation = linear_map(function, shapes, offset=None if offset is None else partial(_itself, offset))
    return recorder.add(operation, used, output.shape[1:])


def _stacked(recorder: Recorder, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> int:
    return _joined(recorder, output, tensors, dim, stack=True)


def _weighted_sum(sign: float) -> OperationRule:
    """x + alpha y or x - alpha y, of two values or a value and a constant."""

    def rule(recorder: Recorder, output: Tensor, x: Any, y: Any, *, alpha: float = 1) -> int:
        return _add_scaled(recorder, output, x, y, 1.0, sign * alpha)

    return rule


def _reverse_subtracted(recorder: Recorder, output: Tensor, x: Any, y: Any, alpha: float = 1) -> int:
    return _add_scaled(recorder, output, y, x, 1.0, -float(alpha))


def _add_scaled(recorder: Recorder, output: Tensor, x: Any, y: Any, a: float, b: float) -> int:
    """The value a x + b y, of two values or a value and a constant."""
    sources = [(recorder.position(x), a, x), (recorder.position(y), b, y)]
    used = [(p, f) for p, f, _ in sources if p is not None]
    constants = [f * _as(output, _constant(recorder, v, output.ndim)) for p, f, v in sources if p is None]
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
        offset=partial(_itself, constants[0]) if constants else None,
        terms=2 if all(abs(f) == 1 for f in factors) else 3,
        fan_out=max(math.prod(shape) // math.prod(_shape(recorder, p)) for p, _ in used),
    )
    if all(_shape(recorder, p) == shape for p, _ in used):
        operation = replace(operation, transpose=lambda c: [c if f == 1 else c * f for f in factors])
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
            lambda t: t * factor,
            [_shape(recorder, source)],
            spread=lambda t: t * factor.abs(),
            terms=terms,
            fan_out=math.prod(shape) // math.prod(_shape(recorder, source)),
        )
    return recorder.add(operation, [source], shape)


def _multiplied(recorder: Recorder, output: Tensor, x: Any, y: Any) -> int:
    if recorder.position(x) is not None and recorder.position(y) is not None:
        raise recorder.refused("a product of two values of the net")
    value, constant = (x, y) if recorder.position(x) is not None else (y, x)
    return _scaled(recorder, output, value, _as(output, _constant(recorder, constant, output.ndim)))


def _divided(recorder: Recorder, output: Tensor, x: Any, y: Any, **kwargs: Any) -> int:
    if recorder.position(y) is not None or kwargs:
        raise recorder.refused("a division by a value of the net")
    return _scaled(recorder, output, x, 1 / _as(output, _constant(recorder, y, output.ndim)), terms=2)


def _negated(recorder: Recorder, output: Tensor, x: Tensor) -> int:
    return _scaled(recorder, output, x, -torch.ones((1,) * output.ndim, dtype=output.dtype, device=output.device), 0)


def _softmax(recorder: Recorder, output: Tensor, x: Tensor, dim: int, *_: Any) -> None:
    position = recorder.position(x)
    assert position is not None
    if x.ndim != 2 or dim % 2 != 1:
        raise recorder.refused("a softmax that is not over the classes")
    recorder.end(output, position)


def _window(x: Tensor, kernel: Sequence[int], *_: Any) -> int:
    return math.prod(kernel if len(kernel) > 1 else [*kernel, *kernel]) + 1


def _averaged(x: Tensor, size: Sequence[int], *_: Any) -> int:
    return math.prod(-(-a // b) + 1 for a, b in zip(x.shape[-2:], size, strict=True)) + 1


def _summed(x: Tensor, dims: Sequence[int] | None = None, *_: Any) -> int:
    return math.prod(x.shape[d] for d in (dims or range(1, x.ndim))) + 1


LINEAR_RULES: dict[str, OperationRule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten"), _reshaped),
    **dict.fromkeys(("detach", "alias", "clone", "_to_copy", "lift_fresh", "contiguous"), _unchanged),
    **dict.fromkeys(("_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(("squeeze", "unsqueeze"), _reshaped),
    "permute": _permuted_to,
    "transpose": _transposed,
    "expand": _expanded,
    "cat": _joined,
    "stack": _stacked,
    **{name: _plain(name) for name in ("slice", "select", "split", "unsafe_split", "split_with_sizes", "unbind")},
    **{name: _plain(name) for name in ("repeat", "flip", "roll", "index_select", "channel_shuffle")},
    **{name: _plain(name) for name in ("reflection_pad2d", "replication_pad2d", "upsample_nearest2d")},
    **{name: _plain(name) for name in ("pixel_shuffle", "pixel_unshuffle")},
    "constant_pad_nd": _padded,
    "avg_pool2d": _plain("avg_pool2d", _window),
    "_adaptive_avg_pool2d": _plain("_adaptive_avg_pool2d", _averaged),
    "mean": _plain("mean", _summed),
    "sum": _plain("sum", _summed),
    "upsample_bilinear2d": _plain("upsample_bilinear2d", lambda *_: 8, mixes=True),
    "add": _weighted_sum(1.0),
    "sub": _weighted_sum(-1.0),
    "rsub": _reverse_subtracted,
    "mul": _multiplied,
    "div": _divided,
    "neg": _negated,
}
"""By the name of an operation in `torch.ops.aten`."""
