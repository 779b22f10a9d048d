"""Boxes of the inputs of activations tightened by backward passes, where intervals leave their signs open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audit.bounds.cones import ByCone, cones
from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import ROWS, Values, lower_bound, value_bounds
from audit.bounds.region import Region


def tightened(graph: BoundGraph, values: Values, region: Region) -> Values:
    """The same with the inputs of every activation bounded by backward passes, where intervals leave its sign open.

    Image by image, since each has other values open.

    Args:
        graph: The net.
        values: Interval bounds.
        region: The inputs.
    """
    rows = [
        _tightened_image(graph, values.select(index), region.select(index))
        for index in torch.arange(len(region.low), device=region.low.device)[:, None]
    ]
    boxes = {
        i: Box(torch.cat([r.boxes[i].low for r in rows]), torch.cat([r.boxes[i].high for r in rows]))
        for i in values.boxes
    }
    return Values(boxes, {i: torch.cat([r.slack[i] for r in rows]) for i in values.slack})


def _tightened_image(graph: BoundGraph, values: Values, region: Region) -> Values:
    for position in graph.unbounded:
        box = values.boxes[position]
        low, high = box.low.flatten(), box.high.flatten()
        open_ = ((low < 0) & (high > 0)).nonzero().flatten()
        if len(open_) == 0:
            continue
        new_low, new_high = low.clone(), high.clone()
        for chunk in _chunks(graph, position, open_):
            lower = _both_ends(graph, values, region, position, chunk)
            new_low[chunk] = torch.maximum(low[chunk], lower[0])
            new_high[chunk] = torch.minimum(high[chunk], -lower[1])
        values.boxes[position] = Box(new_low.view(box.low.shape), new_high.view(box.high.shape))
        refresh(graph, values, position)
    return values


def _chunks(graph: BoundGraph, position: int, open_: Tensor) -> Sequence[Tensor]:
    """The open values in parts whose rows fit into `ROWS` numbers; places of one channel stay together."""
    largest = max(math.prod(graph.nodes[i].shape) for i in graph.ancestors(position))
    rows = max(1, ROWS // (2 * largest))
    found = cones(graph, position)
    if found is None:
        return torch.split(open_, rows)
    places = len(found.colour)
    channels = open_ // places
    per_chunk = max(1, rows // found.colours)
    parts = channels // per_chunk
    return [open_[parts == part] for part in sorted(set(parts.tolist()))]


def _both_ends(graph: BoundGraph, values: Values, region: Region, position: int, index: Tensor) -> Tensor:
    """Lower bounds on some of a value's numbers and on their negatives, (2, M).

    Args:
        graph: The net.
        values: Bounds on the values before it.
        region: One image's.
        position: Of the value.
        index: Which of its numbers, flat, int64 (M,).
    """
    node, found = graph.nodes[position], cones(graph, position)
    size = math.prod(node.shape)
    if found is None:
        starts = torch.zeros(len(index), size, dtype=graph.dtype, device=index.device)
        starts[torch.arange(len(index), device=index.device), index] = 1
        coefficients = torch.cat([starts, -starts]).view(1, -1, *node.shape)
        return lower_bound(graph, values, region, position, coefficients).bound.view(2, -1)
    places = len(found.colour)
    colour, rank = found.colour.to(index.device)[index % places], found.rank.to(index.device)[index % places]
    rows, row = torch.unique(torch.stack([index // places, colour], 1), dim=0, return_inverse=True)
    starts = torch.zeros(len(rows), size, dtype=graph.dtype, device=index.device)
    starts[row, index] = 1
    coefficients = torch.cat([starts, -starts]).view(1, -1, *node.shape)
    sums = ByCone(found, rows[:, 1].repeat(2))
    bounds = lower_bound(graph, values, region, position, coefficients, sums=sums).bound[0]
    return torch.stack([bounds[row, rank], bounds[len(rows) + row, rank]])


def refresh(graph: BoundGraph, values: Values, position: int) -> None:
    """Intervals after a tightened value, never wider than they were.

    Args:
        graph: The net.
        values: Changed in place.
        position: Of the value that was tightened.
    """
    changed = {position}
    for later in range(position + 1, len(graph.nodes)):
        node = graph.nodes[later]
        if not changed.intersection(node.inputs):
            continue
        changed.add(later)
        box, slack = value_bounds(node, [values.boxes[i] for i in node.inputs])
        if slack is not None:
            values.slack[later] = slack
        old = values.boxes[later]
        values.boxes[later] = Box(torch.maximum(old.low, box.low), torch.minimum(old.high, box.high))
