"""Bounds on functions of the outputs by one backward pass: in float32, and in float64 where its rounding decides."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import ROWS, Values, interval_values, lower_bound
from audit.bounds.region import Region
from audit.models.batching import ExecutionLayout, in_batches

CACHED = 3 * 2**19
"""Numbers that the largest tensor of a sweep on a processor may have: more than that leave its cache."""
_KEPT = 2**25 - 2**14
"""Bytes of the largest block that glibc keeps by itself when it is freed, less what it adds to one."""
_NEAR = 4
"""Times its costs in float32, the distance from what must be exceeded within which float64 is asked."""


def rows_that_fit(graph: BoundGraph, copies: int = 1) -> int:
    """Functions that a backward pass may take at once, at least one.

    Args:
        graph: The net.
        copies: How many tensors of that size are held.
    """
    return max(1, ROWS // (copies * max(math.prod(node.shape) for node in graph.nodes)))


def images_at_once(graph: BoundGraph, functions: int) -> int:
    """Images whose functions a backward pass takes together, at least one.

    Args:
        graph: The net.
        functions: Of each image.
    """
    largest = max(math.prod(node.shape) for node in graph.nodes) * max(1, functions)
    limit = CACHED if graph.device.type == "cpu" else ROWS // 2
    return max(1, limit // largest)


def open_first(asked: Tensor, functions: Tensor) -> tuple[Tensor, Tensor]:
    """The functions of each row that are asked, before zero functions where a row has fewer than others.

    Args:
        asked: bool (N, S).
        functions: (N, S, outputs).

    Returns:
        Where each was, int64 (N, K), and the functions, (N, K, outputs).
    """
    count = int(asked.sum(1).max())
    order = asked.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    some = functions.gather(1, order[:, :, None].expand(-1, -1, functions.shape[2]))
    return order, some * asked.gather(1, order)[:, :, None]


@cache
def keep_freed_blocks() -> None:
    """Let malloc use the blocks of one pass again for the next, in a process that set nothing about it.

    glibc gives large blocks back to the system when they are freed, and the kernel clears their pages again for the
    next step: a fifth of a step of alpha-CROWN. It keeps those up to the largest block freed so far, of 32 MB at most,
    so one of that size is allocated and freed; none of its pages is touched. Commands set more (`core.startup`).
    """
    torch.empty(_KEPT, dtype=torch.uint8)


class Sweeps:
    """Bounds on functions of the outputs of a net."""

    def __init__(self, graph: BoundGraph, search: BoundGraph, tie: float) -> None:
        """Nothing is computed yet.

        Args:
            graph: The net in float64.
            search: The same in float32.
            tie: What a bound must exceed to count.
        """
        self.graph, self.search, self.tie = graph, search, tie
        self.layout: ExecutionLayout | None = None
        keep_freed_blocks()

    def values(self, region: Region) -> Values:
        """Interval bounds in float32.

        Args:
            region: The inputs, float64.
        """
        with torch.no_grad():
            return interval_values(self.search, region)

    def exact(self, near: Values, region: Region) -> Values:
        """The same boxes for float64, no wider than intervals in it.

        Args:
            near: In float32.
            region: The inputs, float64.
        """
        with torch.no_grad():
            values = interval_values(self.graph, region)
        boxes = {
            i: Box(torch.maximum(box.low, near.boxes[i].low), torch.minimum(box.high, near.boxes[i].high))
            for i, box in values.boxes.items()
        }
        return Values(boxes, values.slack)

    def bounds(self, values: Values, region: Region, functions: Tensor, *, boxes_only: bool = False) -> Tensor:
        """Lower bounds, infinite for functions that are zero, float64 (N, S).

        A row that float32 does not prove for its rounding alone is bounded in float64 as well.

        Args:
            values: Bounds on the values in float32.
            region: The inputs, float64.
            functions: Their coefficients, float64 (N, S, outputs).
            boxes_only: Whether by intervals alone.
        """
        if self.layout is None:
            largest = max(math.prod(node.shape) for node in self.graph.nodes) * functions.shape[1]
            limit = CACHED if functions.device.type == "cpu" else 8 * ROWS
            self.layout = ExecutionLayout(batch_size=max(1, limit // largest))

        def compute(rows: slice) -> Tensor:
            with torch.no_grad():
                return self._bounds(values.select(rows), region.select(rows), functions[rows], boxes_only=boxes_only)

        return torch.cat(list(in_batches(len(functions), self.layout, compute)))

    def _bounds(self, values: Values, region: Region, functions: Tensor, *, boxes_only: bool) -> Tensor:
        asked = functions.abs().sum(2) > 0
        bounds = torch.where(asked, -torch.inf, torch.inf).to(torch.float64)
        if not bool(asked.any()):
            return bounds
        order, some = open_first(asked, functions)
        known, near = bounds.gather(1, order), torch.ones(len(functions), dtype=torch.bool, device=functions.device)
        single = some.to(self.search.dtype)
        if bool((single == some).all()):
            lower = lower_bound(self.search, values, region, self.search.output, single, boxes_only=boxes_only)
            known = torch.maximum(known, lower.bound)
            near = (known <= self.tie).any(1) & (known + _NEAR * lower.costs > self.tie).all(1)
        if len(index := near.nonzero().flatten()):
            part, place = values.select(index), region.select(index)
            exact = self.exact(part, place)
            lower = lower_bound(self.graph, exact, place, self.graph.output, some[index], boxes_only=boxes_only)
            known[index] = torch.maximum(known[index], lower.bound)
        return bounds.scatter(1, order, known)
