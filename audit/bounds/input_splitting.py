"""Branch and bound over boxes of inputs, for nets with few inputs, where it is faster than splitting ReLUs.

Every part of the box is bounded by linear relaxation with bounds of its own on all values, so that they tighten as the
parts shrink (arXiv:1804.10829 splits inputs; arXiv:1811.00866 bounds them).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import ROWS, Values, interval_values, lower_bound, refresh
from audit.bounds.region import Region
from audit.bounds.verification_query import BoxQuery

LARGEST_BATCH = 512
"""Parts that are bounded at once."""
_NARROW = 1e-9
"""Share of its size below which no side of a part is split any more: only rounding is left then."""


class Searched(NamedTuple):
    """What a search came to.

    Attributes:
        outcome: "proven", "broken" or "open".
        parts: Parts bounded.
    """

    outcome: str
    parts: int


class _Open(NamedTuple):
    """Parts that are not decided.

    Attributes:
        low: (N, D).
        high: (N, D).
        weight: How much each input moves what is not proven, (N, D).
    """

    low: Tensor
    high: Tensor
    weight: Tensor


class InputSplitting:
    """Branch and bound over one box."""

    def __init__(self, graph: BoundGraph, query: BoxQuery) -> None:
        """Nothing is bounded yet.

        Args:
            graph: The net in float64, its input of shape (D,).
            query: The box and what is to be impossible there.
        """
        self.graph, self.query = graph, query
        widest = max(math.prod(node.shape) for node in graph.nodes)
        rows = max([2 * math.prod(graph.nodes[i].shape) for i in graph.unbounded], default=1)
        self.batch = max(1, min(LARGEST_BATCH, ROWS // (rows * widest)))

    @torch.no_grad()
    def run(self, *, late: Callable[[], bool]) -> Searched:
        """Split until every part is proven, a counterexample is met, or it is to stop.

        Args:
            late: Turns true when it is to stop.
        """
        waiting = [(self.query.region.low, self.query.region.high)]
        parts = 0
        while waiting:
            if late():
                return Searched("open", parts)
            low, high = self._taken(waiting)
            parts += len(low)
            left = self._bounded(low, high)
            if self.query.counterexample is not None:
                return Searched("broken", parts)
            if len(left.low) == 0:
                continue
            if bool(self._narrow(left).any()):
                return Searched("open", parts)
            waiting.append(self._split(left))
        return Searched("proven", parts)

    def _taken(self, waiting: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The parts that were put there last, as many as are bounded at once."""
        taken: list[tuple[Tensor, Tensor]] = []
        count = 0
        while waiting and count < self.batch:
            low, high = waiting.pop()
            space = self.batch - count
            if len(low) > space:
                waiting.append((low[:-space], high[:-space]))
                low, high = low[-space:], high[-space:]
            taken.append((low, high))
            count += len(low)
        return torch.cat([low for low, _ in taken]), torch.cat([high for _, high in taken])

    def _bounded(self, low: Tensor, high: Tensor) -> _Open:
        """The parts that are not proven; counterexamples at their middles and at minima of the bounds are kept."""
        query, region = self.query, Region.box(low, high)
        values = tightened_together(self.graph, interval_values(self.graph, region), region)
        functions = query.coefficients[None].expand(len(low), -1, -1)
        lower = lower_bound(self.graph, values, region, self.graph.output, functions)
        by_intervals = lower_bound(self.graph, values, region, self.graph.output, functions, boxes_only=True).bound
        margins = torch.maximum(lower.bound, by_intervals) - query.limits
        worst = query.worst(margins)
        open_ = ~(worst > 0).all(1)
        if not bool(open_.any()):
            return _Open(low[:0], high[:0], low[:0])
        low, high, margins, worst = low[open_], high[open_], margins[open_], worst[open_]
        slopes = lower.coefficients[open_]
        nearest = worst.argmin(1)
        mine = query.owners == nearest[:, None]
        leading = torch.where(mine, margins, -torch.inf).argmax(1)
        slope = slopes[torch.arange(len(low)), leading]
        corners = torch.where(slope > 0, low, high)
        query.broken(torch.cat([(low + high) / 2, corners]))
        undecided = (worst <= 0)[:, query.owners]
        return _Open(low, high, (slopes.abs() * undecided[:, :, None]).sum(1))

    def _narrow(self, parts: _Open) -> Tensor:
        size = torch.maximum(parts.low.abs(), parts.high.abs())
        return (parts.high - parts.low <= _NARROW * size).all(1)

    def _split(self, parts: _Open) -> tuple[Tensor, Tensor]:
        """Halves along the side whose width moves the bound most; eighths while few parts are left."""
        low, high, weight = parts
        for _ in range(3):
            width = high - low
            side = (width * (weight + 1e-12 * weight.amax(1, keepdim=True) + 1e-300)).argmax(1)
            rows = torch.arange(len(low))
            middle = (low[rows, side] + high[rows, side]) / 2
            first_high, second_low = high.clone(), low.clone()
            first_high[rows, side] = middle
            second_low[rows, side] = middle
            low, high, weight = torch.cat([low, second_low]), torch.cat([first_high, high]), torch.cat([weight, weight])
            if 4 * len(low) > self.batch:
                break
        return low, high


def tightened_together(graph: BoundGraph, values: Values, region: Region) -> Values:
    """The same with the inputs of activations bounded by backward passes, many small nets at once.

    Args:
        graph: The net.
        values: Interval bounds.
        region: The inputs.
    """
    rows = len(region.low)
    for position in graph.unbounded:
        box = values.boxes[position]
        low, high = box.low.flatten(1), box.high.flatten(1)
        open_ = ((low < 0) & (high > 0)).any(0).nonzero().flatten()
        if len(open_) == 0:
            continue
        starts = torch.zeros(len(open_), low.shape[1], dtype=graph.dtype)
        starts[torch.arange(len(open_)), open_] = 1
        both = torch.cat([starts, -starts]).view(1, -1, *graph.nodes[position].shape)
        bound = lower_bound(graph, values, region, position, both.expand(rows, *both.shape[1:])).bound
        low, high = low.clone(), high.clone()
        low[:, open_] = torch.maximum(low[:, open_], bound[:, : len(open_)])
        high[:, open_] = torch.minimum(high[:, open_], -bound[:, len(open_) :])
        values.boxes[position] = Box(low.view(box.low.shape), high.view(box.low.shape))
        refresh(graph, values, position)
    return values
