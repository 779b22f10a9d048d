"""Boxes of the inputs of activations tightened by backward passes, where intervals leave their signs open."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audit.bounds.cones import ByCone, cones
from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import ROWS, Values, lower_bound, value_bounds
from audit.bounds.region import Region
from audit.bounds.single_precision import outward_box
from audit.models.batching import ExecutionLayout, in_batches


def tightened(
    graph: BoundGraph,
    values: Values,
    region: Region,
    late: Callable[[], bool] | None = None,
    *,
    inside: bool = True,
) -> Values:
    """The same with the inputs of every activation bounded by backward passes, where intervals leave its sign open.

    Image by image, since each has other values open.

    Args:
        graph: The net.
        values: Interval bounds, of the graph's precision.
        region: The inputs, float64.
        late: Turns true when it is to stop: values that are not reached then keep their bounds.
        inside: Whether those inside a max-pooling are bounded as well: most of the work, for the last bit of it.
    """
    positions = [i for i in graph.unbounded if inside or i not in graph.inside]
    rows = [
        _tightened_image(graph, values.select(index), region.select(index), positions, late or (lambda: False))
        for index in torch.arange(len(region.low), device=region.low.device)[:, None]
    ]
    boxes = {
        i: Box(torch.cat([r.boxes[i].low for r in rows]), torch.cat([r.boxes[i].high for r in rows]))
        for i in values.boxes
    }
    return Values(boxes, {i: torch.cat([r.slack[i] for r in rows]) for i in values.slack})


def _tightened_image(
    graph: BoundGraph, values: Values, region: Region, positions: Sequence[int], late: Callable[[], bool]
) -> Values:
    for position in positions:
        box = values.boxes[position]
        low, high = box.low.flatten(), box.high.flatten()
        open_ = ((low < 0) & (high > 0)).nonzero().flatten()
        if len(open_) == 0:
            continue
        if late():
            break
        new_low, new_high = low.clone(), high.clone()
        rows = max(1, ROWS // (4 * max(math.prod(graph.nodes[i].shape) for i in graph.ancestors(position))))
        for portion in _portions(graph, position, open_, rows):

            def both(part: slice, chunk: Tensor = portion, at: int = position) -> tuple[Tensor, Tensor]:
                return chunk[part], _both_ends(graph, values, region, at, chunk[part])

            for index, lower in in_batches(len(portion), ExecutionLayout(batch_size=len(portion)), both):
                ends = outward_box(lower[0], -lower[1]) if low.dtype == torch.float32 else Box(lower[0], -lower[1])
                new_low[index] = torch.maximum(low[index], ends.low)
                new_high[index] = torch.minimum(high[index], ends.high)
            if late():
                break
        values.boxes[position] = Box(new_low.view(box.low.shape), new_high.view(box.high.shape))
        refresh(graph, values, position)
    return values


def _portions(graph: BoundGraph, position: int, open_: Tensor, rows: int) -> Sequence[Tensor]:
    """The open values in parts of so many rows; places of one channel stay together."""
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
        box, slack = value_bounds(node, [values.boxes[i] for i in node.inputs], graph.consumers[later])
        if slack is not None:
            values.slack[later] = slack
        old = values.boxes[later]
        values.boxes[later] = Box(torch.maximum(old.low, box.low), torch.minimum(old.high, box.high))
