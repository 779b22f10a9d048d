"""Maxima of two, clamps, leaky ReLU and |x| as sums of ReLUs: exact, so that bounds and branching know ReLU alone.

max(a, b) = a + relu(b - a). Each sum carries the box of the function that it makes up, which is monotone or known and
tighter than the sum of the boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audit.bounds.activations import RELU
from audit.bounds.graph import Affine, Box
from audit.bounds.trace import Recorder


def relu_of(recorder: Recorder, position: int) -> int:
    """Add a ReLU; its position.

    Args:
        recorder: Holds the graph.
        position: Of its input.
    """
    return recorder.add(RELU, [position], recorder.graph.nodes[position].shape)


def _shifted(recorder: Recorder, position: int, sign: float, offset: Tensor | float, like: Tensor) -> int:
    """offset + sign x; exact, as a comparison with a constant is."""
    constant = torch.as_tensor(offset, dtype=like.dtype, device=like.device)
    constant = constant.view((1,) * (like.ndim - constant.ndim) + tuple(constant.shape))
    operation = Affine(lambda t: t * sign, lambda a: [a * sign], lambda t: t, lambda: constant)
    return recorder.add(operation, [position], recorder.graph.nodes[position].shape)


def clamped(
    recorder: Recorder, output: Tensor, x: Tensor, low: Any = None, high: Any = None, min: Any = None, max: Any = None
) -> int:
    """Clamp: relu(x - low) + low, then high - relu(high - x).

    Args:
        recorder: Holds the graph.
        output: The value on the traced images.
        x: What is clamped.
        low: Lower end, a number, a constant, or None.
        high: Upper end, likewise.
        min: Another name of `low`.
        max: Another name of `high`.
    """
    low, high = (min if low is None else low), (max if high is None else high)
    position = recorder.position(x)
    assert position is not None
    if recorder.position(low) is not None or recorder.position(high) is not None:
        raise recorder.refused("a clamp at values of the net")
    if low is not None:
        position = relu_of(recorder, _shifted(recorder, position, 1.0, -low, output))
        position = _shifted(recorder, position, 1.0, low, output)
    if high is not None:
        position = relu_of(recorder, _shifted(recorder, position, -1.0, high, output))
        position = _shifted(recorder, position, -1.0, high, output)
    return position


def _mixed(
    recorder: Recorder,
    output: Tensor,
    position: int,
    linear: Tensor,
    bent: Tensor,
    interval: Callable[..., Box],
    terms: int,
) -> int:
    """linear x + bent relu(x)."""
    operation = Affine(
        lambda t, r: t * linear + r * bent,
        lambda a: [a * linear, a * bent],
        lambda t, r: t * linear.abs() + r * bent.abs(),
        terms=terms,
        interval=interval,
        of_first=True,
    )
    return recorder.add(operation, [position, relu_of(recorder, position)], output.shape[1:])


def leaky(recorder: Recorder, output: Tensor, x: Tensor, slope: Any = 0.01) -> int:
    """Leaky or parametric ReLU of a slope in [0, 1]: slope x + (1 - slope) relu(x).

    Args:
        recorder: Holds the graph.
        output: The value on the traced images.
        x: What it is applied to.
        slope: Below 0, a number or a constant one a channel.
    """
    position = recorder.position(x)
    assert position is not None
    factor = torch.as_tensor(slope, dtype=output.dtype, device=output.device)
    if factor.ndim == 1 and factor.numel() > 1:
        factor = factor.view(-1, *(1,) * (output.ndim - 2))
    if bool((factor < 0).any()):
        raise recorder.refused("a leaky ReLU with a negative slope")

    def box(inputs: Box, *_: Box) -> Box:
        low, high = (torch.where(end > 0, end, end * factor) for end in inputs)
        return Box(low, high)

    return _mixed(recorder, output, position, factor, 1 - factor, box, 2)


def absolute(recorder: Recorder, output: Tensor, x: Tensor) -> int:
    """|x| = 2 relu(x) - x.

    Args:
        recorder: Holds the graph.
        output: The value on the traced images.
        x: What it is applied to.
    """
    position = recorder.position(x)
    assert position is not None

    def box(inputs: Box, *_: Box) -> Box:
        ends = torch.stack([inputs.low.abs(), inputs.high.abs()])
        inside = (inputs.low <= 0) & (inputs.high >= 0)
        return Box(torch.where(inside, 0, ends.amin(0)), ends.amax(0))

    one = torch.ones((), dtype=output.dtype, device=output.device)
    return _mixed(recorder, output, position, -one, 2 * one, box, 0)


def maximum(sign: float) -> Callable[..., int]:
    """The rule of the larger (sign 1) or the smaller (sign -1) of two values, or of a value and a constant.

    Args:
        sign: 1 or -1.
    """

    def rule(recorder: Recorder, output: Tensor, x: Any, y: Any) -> int:
        first, second = recorder.position(x), recorder.position(y)
        if first is None or second is None:
            value, constant = (x, y) if second is None else (y, x)
            return (
                clamped(recorder, output, value, constant)
                if sign > 0
                else clamped(recorder, output, value, None, constant)
            )
        shape = tuple(output.shape[1:])
        if recorder.graph.nodes[first].shape != shape or recorder.graph.nodes[second].shape != shape:
            raise recorder.refused("a maximum of values of two shapes")
        gap = Affine(lambda a, b: sign * (b - a), lambda c: [-sign * c, sign * c], lambda a, b: a + b)
        relu = relu_of(recorder, recorder.add(gap, [first, second], shape))

        def box(a: Box, b: Box, _: Box) -> Box:
            choose = torch.maximum if sign > 0 else torch.minimum
            return Box(choose(a.low, b.low), choose(a.high, b.high))

        total = Affine(
            lambda a, b, r: a + sign * r,
            lambda c: [c, torch.zeros_like(c), sign * c],
            lambda a, b, r: a + r,
            interval=box,
        )
        return recorder.add(total, [first, second, relu], shape)

    return rule
