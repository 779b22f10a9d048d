"""Maxima, clamps, leaky ReLU and absolute values as sums of ReLUs: exact, so that bounds and branching know ReLU alone.

max(a, b) = a + relu(b - a). Each sum carries the box of the function that it makes up, which is monotone or known and
tighter than the sum of the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.bounds.activations import RELU
from audit.bounds.graph import Affine, Box
from audit.bounds.trace import Recorder


def _relu_of(recorder: Recorder, position: int) -> int:
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
        position = _relu_of(recorder, _shifted(recorder, position, 1.0, -low, output))
        position = _shifted(recorder, position, 1.0, low, output)
    if high is not None:
        position = _relu_of(recorder, _shifted(recorder, position, -1.0, high, output))
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
    return recorder.add(operation, [position, _relu_of(recorder, position)], output.shape[1:])


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
        relu = _relu_of(recorder, recorder.add(gap, [first, second], shape))

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


def max_pooled(
    recorder: Recorder,
    output: Any,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> list[int]:
    """Max-pooling: the windows as a new first axis, then the maximum of its halves until one is left.

    Args:
        recorder: Holds the graph.
        output: The values and indices on the traced images.
        x: What is pooled, (N, C, H, W).
        kernel: Height and width of the window.
        stride: Steps; as the kernel where empty.
        padding: Of the edges, which never win.
        dilation: Steps inside the window.
        ceil_mode: Whether windows may lie over the far edges, which never win.
    """
    source = recorder.position(x)
    assert source is not None
    pooled = output[0]
    pair = [list(p) * (2 // len(p)) for p in (kernel, stride or kernel, padding, dilation)]
    position = recorder.add(
        _windows(x, tuple(pooled.shape[2:]), *pair), [source], (pair[0][0] * pair[0][1], *pooled.shape[1:])
    )
    while (count := recorder.graph.nodes[position].shape[0]) > 1:
        position = _halved(recorder, position, count // 2, tuple(pooled.shape[1:]))

    size, steps, edge, gaps = pair

    def box(inputs: Box, *_: Box) -> Box:
        low, high = (torch.max_pool2d(end, size, steps, edge, gaps, ceil_mode) for end in inputs)
        return Box(low, high)

    last = Affine(lambda x, t: t[:, 0], lambda a: [None, a[:, None]], interval=box, of_first=True)
    return [recorder.add(last, [source, position], pooled.shape[1:])]


def _halved(recorder: Recorder, position: int, half: int, shape: tuple[int, ...]) -> int:
    """The larger of the first and the second `half` of a stack; what is left over stays."""
    count = recorder.graph.nodes[position].shape[0]
    rest = count - 2 * half

    def gap_back(c: Tensor) -> list[Tensor]:
        return [torch.cat([-c, c, c.new_zeros(len(c), rest, *shape)], 1)]

    gap = Affine(lambda t: t[:, half : 2 * half] - t[:, :half], gap_back, lambda t: t[:, half : 2 * half] + t[:, :half])
    relu = _relu_of(recorder, recorder.add(gap, [position], (half, *shape)))

    def merge(t: Tensor, r: Tensor) -> Tensor:
        return torch.cat([t[:, :half] + r, t[:, 2 * half :]], 1)

    def merge_back(c: Tensor) -> list[Tensor]:
        first = c[:, :half]
        return [torch.cat([first, c.new_zeros(len(c), half, *shape), c[:, half:]], 1), first]

    def box(t: Box, *_: Box) -> Box:
        low, high = (torch.cat([torch.maximum(e[:, :half], e[:, half : 2 * half]), e[:, 2 * half :]], 1) for e in t)
        return Box(low, high)

    return recorder.add(Affine(merge, merge_back, interval=box, of_first=True), [position, relu], (half + rest, *shape))


def _windows(
    x: Tensor, out: tuple[int, ...], kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> Affine:
    """(N, C, H, W) to (N, kh kw, C, h, w): what each place of a window sees."""
    channels, height, width = x.shape[1:]
    (kh, kw), (h, w) = kernel, out
    if kernel == stride and padding == [0, 0] and dilation == [1, 1] and h * kh <= height and w * kw <= width:

        def cut(t: Tensor) -> Tensor:
            tiles = t[:, :, : h * kh, : w * kw].reshape(len(t), channels, h, kh, w, kw)
            return tiles.permute(0, 3, 5, 1, 2, 4).reshape(len(t), kh * kw, channels, h, w)

        def paste(a: Tensor) -> list[Tensor]:
            tiles = (
                a.view(len(a), kh, kw, channels, h, w)
                .permute(0, 3, 4, 1, 5, 2)
                .reshape(len(a), channels, h * kh, w * kw)
            )
            return [torch.nn.functional.pad(tiles, (0, width - w * kw, 0, height - h * kh))]

        return Affine(cut, paste)
    index = _places(height, width, kernel, stride, padding, dilation, out, x.device)

    def gather(t: Tensor) -> Tensor:
        return t.flatten(2)[:, :, index.flatten()].view(len(t), channels, kh * kw, h, w).transpose(1, 2)

    def scatter(a: Tensor) -> list[Tensor]:
        rows = a.transpose(1, 2).reshape(len(a), channels, -1)
        return [
            rows.new_zeros(len(a), channels, height * width).index_add(2, index.flatten(), rows).view(-1, *x.shape[1:])
        ]

    return Affine(gather, scatter)


def _places(
    height: int,
    width: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    out: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """The pixel that each place of each window sees, (kh kw, h, w); outside the image, another pixel of the window."""

    def along(size: int, axis: int) -> Tensor:
        first = torch.arange(out[axis], device=device)[None] * stride[axis] - padding[axis]
        steps = torch.arange(kernel[axis], device=device)[:, None] * dilation[axis]
        places = first + steps
        inside = (places >= 0) & (places < size)
        fallback = torch.where(inside, places, -1).amax(0, keepdim=True)
        return torch.where(inside, places, fallback)

    rows, columns = along(height, 0), along(width, 1)
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).flatten(0, 1)
