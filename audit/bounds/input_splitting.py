"""Branch and bound over boxes of inputs, for nets with few inputs, where it is faster than splitting ReLUs.

Every part of the box is bounded by linear relaxation with bounds of its own on all values, so that they tighten as the
parts shrink (arXiv:1804.10829 splits inputs; arXiv:1811.00866 bounds them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audit.bounds.graph import BoundGraph, Box
from audit.bounds.narrowing import narrowing_search
from audit.bounds.propagate import ROWS, Values, interval_values, lower_bound
from audit.bounds.region import Region
from audit.bounds.tighten import refresh, tightened
from audit.bounds.verification_query import BoxQuery

LARGEST_BATCH = 512
"""Parts that are bounded at once."""
_FIRST_SEARCH = 256
"""Parts after which those that are left are searched for a counterexample; again at four times as many."""
_WIDEST = 0.5
"""What the widest side counts beside 1 for the one that moves the bound most, when a side to split is chosen."""
_TINY = 1e-300
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


class _Parts(NamedTuple):
    """Parts of the box that are not decided.

    Attributes:
        low: (N, D).
        high: (N, D).
        below: What is known of the inputs of activations in each part, all in one row: lower bounds, (N, T).
        above: Upper bounds.
        weight: How much each input moves what is not proven, (N, D); nothing is known before a part was bounded.
    """

    low: Tensor
    high: Tensor
    below: Tensor
    above: Tensor
    weight: Tensor

    def select(self, index: Tensor | slice) -> _Parts:
        """Some of them."""
        return _Parts(*(field[index] for field in self))

    @staticmethod
    def join(parts: Sequence[_Parts]) -> _Parts:
        """All of several."""
        return _Parts(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


class InputSplitting:
    """Branch and bound over one box."""

    def __init__(self, graph: BoundGraph, query: BoxQuery, *, searching: bool = False) -> None:
        """Nothing is bounded yet.

        Args:
            graph: The net in float64, its input of shape (D,).
            query: The box and what is to be impossible there.
            searching: Whether to search the parts that are left for counterexamples by random points now and then.
        """
        self.graph, self.query, self.searching = graph, query, searching
        widest = max(math.prod(node.shape) for node in graph.nodes)
        sizes = [math.prod(graph.nodes[i].shape) for i in graph.unbounded]
        self.known = sum(sizes)
        rows = 2 * max(sizes, default=1)
        self.batch = max(1, min(LARGEST_BATCH, ROWS // (rows * widest)))
        self._large = rows * widest > ROWS

    @torch.no_grad()
    def run(self, *, late: Callable[[], bool]) -> Searched:
        """Split until every part is proven, a counterexample is met, or it is to stop.

        Args:
            late: Turns true when it is to stop.
        """
        low, high = self.query.region.low, self.query.region.high
        unknown = low.new_full((1, self.known), torch.inf)
        waiting = [_Parts(low, high, -unknown, unknown, torch.zeros_like(low))]
        count, search_at = 0, _FIRST_SEARCH
        while waiting:
            if late():
                return Searched("open", count)
            if self.searching and count >= search_at:
                left = _Parts.join(waiting)
                if narrowing_search(self.query, left.low, left.high, seed=count, late=late):
                    return Searched("broken", count)
                search_at = 4 * count
            parts = self._taken(waiting)
            count += len(parts.low)
            left = self._bounded(parts)
            if self.query.counterexample is not None:
                return Searched("broken", count)
            if len(left.low) == 0:
                continue
            if bool(self._narrow(left).any()):
                return Searched("open", count)
            waiting.append(self._split(left))
        return Searched("proven", count)

    def _taken(self, waiting: list[_Parts]) -> _Parts:
        """The parts that were put there last, as many as are bounded at once."""
        taken: list[_Parts] = []
        space = self.batch
        while waiting and space:
            parts = waiting.pop()
            if len(parts.low) > space:
                waiting.append(parts.select(slice(None, -space)))
                parts = parts.select(slice(-space, None))
            taken.append(parts)
            space -= len(parts.low)
        return _Parts.join(taken)

    def _bounded(self, parts: _Parts) -> _Parts:
        """The parts that are not proven; counterexamples at their middles and at minima of the bounds are kept."""
        query, region = self.query, Region.box(parts.low, parts.high)
        values = interval_values(self.graph, region)
        if self._large:  # in portions that fit into memory
            values = tightened(self.graph, values, region)
        else:
            values = tightened_together(self.graph, values, region, parts.below, parts.above)
        functions = query.coefficients[None].expand(len(parts.low), -1, -1)
        lower = lower_bound(self.graph, values, region, self.graph.output, functions)
        by_intervals = lower_bound(self.graph, values, region, self.graph.output, functions, boxes_only=True).bound
        margins = torch.maximum(lower.bound, by_intervals) - query.limits
        worst = query.worst(margins)
        open_ = (~(worst > 0).all(1)).nonzero().flatten()
        if len(open_) == 0:
            return parts.select(open_)
        boxes = [values.boxes[position] for position in self.graph.unbounded]
        below, above = ([box[end].flatten(1)[open_] for box in boxes] for end in (0, 1))
        rows = [torch.cat([*known, parts.low.new_zeros(len(open_), 0)], 1) for known in (below, above)]
        low, high, margins, worst = parts.low[open_], parts.high[open_], margins[open_], worst[open_]
        slopes = lower.coefficients[open_]
        mine = query.owners == worst.argmin(1)[:, None]
        leading = torch.where(mine, margins, -torch.inf).argmax(1)
        slope = slopes[torch.arange(len(low)), leading]
        query.broken(torch.cat([(low + high) / 2, torch.where(slope > 0, low, high)]))
        undecided = (worst <= 0)[:, query.owners]
        return _Parts(low, high, rows[0], rows[1], (slopes.abs() * undecided[:, :, None]).sum(1))

    def _narrow(self, parts: _Parts) -> Tensor:
        size = torch.maximum(parts.low.abs(), parts.high.abs())
        return (parts.high - parts.low <= _NARROW * size).all(1)

    def _split(self, parts: _Parts) -> _Parts:
        """Halves along the side whose width moves the bound most; eighths while few parts are left.

        What a side moves by the slopes of one bound is not all: a wide one keeps ReLUs unstable. So of two that move it
        about as much the wider is split, as a share of the whole box.
        """
        whole = (self.query.region.high - self.query.region.low).clamp(min=_TINY)
        for _ in range(3):
            width = parts.high - parts.low
            effect, share = width * parts.weight, width / whole
            score = effect / effect.amax(1, keepdim=True).clamp(min=_TINY)
            side = (score + _WIDEST * share / share.amax(1, keepdim=True).clamp(min=_TINY)).argmax(1)
            rows = torch.arange(len(side))
            middle = (parts.low[rows, side] + parts.high[rows, side]) / 2
            high, low = parts.high.clone(), parts.low.clone()
            high[rows, side] = middle
            low[rows, side] = middle
            parts = _Parts.join([parts._replace(high=high), parts._replace(low=low)])
            if 4 * len(parts.low) > self.batch:
                break
        return parts


def tightened_together(graph: BoundGraph, values: Values, region: Region, below: Tensor, above: Tensor) -> Values:
    """The same with the inputs of activations bounded by backward passes, many small nets at once.

    Args:
        graph: The net.
        values: Interval bounds.
        region: The inputs.
        below: Lower bounds that are known on the inputs of all activations, in their order, (N, T).
        above: Upper bounds.
    """
    rows, begin = len(region.low), 0
    for position in graph.unbounded:
        box = values.boxes[position]
        end = begin + math.prod(graph.nodes[position].shape)
        low = torch.maximum(box.low.flatten(1), below[:, begin:end])
        high = torch.minimum(box.high.flatten(1), above[:, begin:end])
        begin = end
        open_ = (low < 0) & (high > 0)
        most = int(open_.sum(1).max())
        index = open_.to(torch.int8).topk(most, 1).indices  # a row with fewer bounds what is known as well
        if most:
            starts = torch.zeros(rows, most, low.shape[1], dtype=graph.dtype).scatter_(2, index[:, :, None], 1)
            both = torch.cat([starts, -starts], 1).view(rows, -1, *graph.nodes[position].shape)
            bound = lower_bound(graph, values, region, position, both).bound
            low = low.scatter(1, index, torch.maximum(low.gather(1, index), bound[:, :most]))
            high = high.scatter(1, index, torch.minimum(high.gather(1, index), -bound[:, most:]))
        values.boxes[position] = Box(low.view(box.low.shape), high.view(box.low.shape))
        refresh(graph, values, position)
    return values
