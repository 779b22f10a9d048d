"""Max-pooling as halvings of its windows, each a sum of ReLUs, and the lines that these come to together.

max(a, b) = a + relu(b - a), so a window is halved until one value is left. Its bounds are those of the ReLUs, which
branching and tighter boxes then reach. A backward pass that asks for none of them goes through all halvings at once: a
maximum never falls in any of its values, so the coefficients keep their sign, and the lines of the ReLUs multiply out
to one weight for each value of the window, the same for every function that is bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audit.bounds.activations import RELU
from audit.bounds.bends import bent_into_tiles
from audit.bounds.graph import UNIT, Affine, Box
from audit.bounds.maxima import relu_of
from audit.bounds.single_precision import outward_lines
from audit.bounds.trace import Recorder


class WindowLines(NamedTuple):
    """A line below and a line above the maximum of each window.

    Attributes:
        low: Weights of the values of a window in the line below, whose intercept is 0, (N, S or 1, K, *shape).
        high: Those of the line above, (N, 1, K, *shape).
        intercept: Of the line above, (N, *shape).
        slack: What the weights may have rounded, times the largest value, (N, *shape); None where that is not asked.
    """

    low: Tensor
    high: Tensor
    intercept: Tensor
    slack: Tensor | None = None


@dataclass(frozen=True)
class Pooling:
    """The nodes between a value and the maxima of its windows.

    Attributes:
        windows: Position of the windows, (K, *shape) without the batch.
        relus: Position of the ReLU of each halving, the first one first.
        tiles: Height and width of windows that lie side by side; None where they overlap or leave gaps.
    """

    windows: int
    relus: tuple[int, ...]
    tiles: tuple[int, int] | None

    def goes_at_once(self, multipliers: Collection[int]) -> bool:
        """Whether no constraint is put on a number inside.

        Args:
            multipliers: Positions that are constrained.
        """
        return not any(relu - 1 in multipliers for relu in self.relus)

    def lines(self, boxes: Mapping[int, Box], slopes: Mapping[int, Tensor], *, outward: bool = False) -> WindowLines:
        """The lines of the halvings, multiplied out.

        Args:
            boxes: By position.
            slopes: Of the lines below ReLUs, as in `lower_bound`.
            outward: Whether they are to hold in float32: a weight is a product of at most one factor a halving, each
                rounded twice and within [0, 1], so that it is off by at most 4 u a halving.
        """
        low = high = intercept = None
        for relu in reversed(self.relus):
            box = boxes[relu - 1]
            slope = slopes.get(relu)
            lines = outward_lines(RELU, box, slope) if outward else RELU.lines(box.low, box.high, slope)
            half = box.low.shape[1]
            below = lines.low_slope if lines.low_slope.ndim > box.low.ndim else lines.low_slope[:, None]
            above = lines.high_slope[:, None]
            if low is None or high is None or intercept is None:
                low, high = torch.ones_like(below[:, :, :1]), torch.ones_like(above[:, :, :1])
                intercept = torch.zeros_like(box.low[:, 0])
            intercept = intercept + (high[:, 0, :half] * lines.high_intercept).sum(1)
            low, high = (_parted(weight, slope, half) for weight, slope in ((low, below), (high, above)))
        assert low is not None and high is not None and intercept is not None
        if not outward:
            return WindowLines(low, high, intercept)
        largest = torch.maximum(boxes[self.windows].low.abs(), boxes[self.windows].high.abs()).amax(1)
        rounded = 4 * len(self.relus) * low.shape[2] * UNIT
        return WindowLines(low, high, intercept * (1 + rounded), largest * rounded)

    def back(self, a: Tensor, lines: WindowLines, source: Sequence[int], paste: Any) -> tuple[Tensor, Tensor]:
        """Coefficients of the value before the windows from those of the maxima, and min(a, 0).

        Args:
            a: Coefficients of the maxima, (N, S, *shape).
            lines: Of the windows.
            source: Shape of the value before.
            paste: The transposed map of the windows.
        """
        low, high = lines.low, lines.high
        if self.tiles is not None:
            return bent_into_tiles(a, low, high, self.tiles, source)
        above, below = a.clamp(min=0), a.clamp(max=0)
        weighted = torch.addcmul(above[:, :, None] * low, below[:, :, None], high)
        (back,) = paste(weighted.flatten(0, 1))
        return back.view(*a.shape[:2], *source), below


def _parted(weight: Tensor, slope: Tensor, half: int) -> Tensor:
    """Weights of a stack from those of its halves' maxima: max(a, b) = a + relu(b - a) along one line."""
    first, rest = weight[:, :, :half], weight[:, :, half:]
    second = first * slope
    return torch.cat([first - second, second, rest.expand(*second.shape[:2], *rest.shape[2:])], 2)


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
    cut, tiles = _windows(x, tuple(pooled.shape[2:]), *pair)
    windows = position = recorder.add(cut, [source], (pair[0][0] * pair[0][1], *pooled.shape[1:]))
    relus = []
    while (count := recorder.graph.nodes[position].shape[0]) > 1:
        position = _halved(recorder, position, count // 2, tuple(pooled.shape[1:]))
        relus.append(position - 1)

    size, steps, edge, gaps = pair

    def box(inputs: Box, *_: Box) -> Box:
        low, high = (torch.max_pool2d(end, size, steps, edge, gaps, ceil_mode) for end in inputs)
        return Box(low, high)

    last = Affine(
        lambda x, t: t[:, 0],
        lambda a: [None, a[:, None]],
        interval=box,
        of_first=True,
        pooling=Pooling(windows, tuple(relus), tiles) if relus else None,
    )
    return [recorder.add(last, [source, position], pooled.shape[1:])]


def _halved(recorder: Recorder, position: int, half: int, shape: tuple[int, ...]) -> int:
    """The larger of the first and the second `half` of a stack; what is left over stays."""
    count = recorder.graph.nodes[position].shape[0]
    rest = count - 2 * half

    def gap_back(c: Tensor) -> list[Tensor]:
        return [torch.cat([-c, c, c.new_zeros(len(c), rest, *shape)], 1)]

    def gap_box(t: Box) -> Box:
        first, second = (Box(*(end[:, k * half : (k + 1) * half] for end in t)) for k in (0, 1))
        return Box(second.low - first.high, second.high - first.low)

    gap = Affine(
        lambda t: t[:, half : 2 * half] - t[:, :half],
        gap_back,
        lambda t: t[:, half : 2 * half] + t[:, :half],
        interval=gap_box,
    )
    relu = relu_of(recorder, recorder.add(gap, [position], (half, *shape)))

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
) -> tuple[Affine, tuple[int, int] | None]:
    """(N, C, H, W) to (N, kh kw, C, h, w): what each place of a window sees; the window's size where they tile."""
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

        return Affine(cut, paste), (kh, kw)
    index = _places(height, width, kernel, stride, padding, dilation, out, x.device)

    def gather(t: Tensor) -> Tensor:
        return t.flatten(2)[:, :, index.flatten()].view(len(t), channels, kh * kw, h, w).transpose(1, 2)

    def scatter(a: Tensor) -> list[Tensor]:
        rows = a.transpose(1, 2).reshape(len(a), channels, -1)
        return [
            rows.new_zeros(len(a), channels, height * width).index_add(2, index.flatten(), rows).view(-1, *x.shape[1:])
        ]

    often = int(torch.bincount(index.flatten()).amax())
    return Affine(gather, scatter, fan_out=often), None


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
