"""Bounds on the values of a net over a region: intervals forwards, linear relaxation backwards (arXiv:1811.00866).

Sound in floating point: a float32 evaluation of the net, in whatever order of summation, is the exact net with every
affine value moved by at most its rounding (`Affine.rounding`) and every smooth activation by a few units. Both passes
let each value move so far: intervals are widened by it, and a backward pass subtracts |coefficient| times it at every
value it goes through. In float64 the passes themselves round 2**-29 of the same quantities, inside the factor of two
that `Affine.rounding` takes. In float32, which is several times as fast, they round as much as the net: see
`audit.bounds.single_precision`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.bounds.activations import ULPS, Activation
from audit.bounds.bends import bent
from audit.bounds.cones import BY_ROW, ByCone, ByRow
from audit.bounds.graph import UNIT, Affine, BoundGraph, Box, GraphNode, Rounding
from audit.bounds.pooling import Pooling
from audit.bounds.region import GUARD, Region
from audit.bounds.single_precision import COSTED, COSTS, UNDERFLOW, outward_box, outward_lines

ROWS = 2**23
"""Numbers that the largest tensor of a backward pass may have."""

Slopes = Mapping[int, Tensor]
"""By the position of a ReLU, the slope of its line below, (N, S or 1, *shape) in [0, 1]."""


@dataclass(frozen=True)
class Values:
    """Bounds on the values of a net.

    Attributes:
        boxes: By position, boxes (N, *shape).
        slack: By position, how far float32 may move the value, (N, *shape); exact values have none.
    """

    boxes: dict[int, Box]
    slack: dict[int, Tensor]

    def select(self, index: Tensor | slice) -> Values:
        """Some of its rows.

        Args:
            index: Positions, int64 (M,), or a slice.
        """
        boxes = {i: Box(box.low[index], box.high[index]) for i, box in self.boxes.items()}
        return Values(boxes, {i: slack[index] for i, slack in self.slack.items()})

    def repeated(self, count: int) -> Values:
        """Its only row several times, without copies.

        Args:
            count: How often.
        """
        boxes = {i: Box(*(end.expand(count, *end.shape[1:]) for end in box)) for i, box in self.boxes.items()}
        return Values(boxes, {i: slack.expand(count, *slack.shape[1:]) for i, slack in self.slack.items()})

    def to(self, dtype: torch.dtype) -> Values:
        """The bounds in another precision, rounded to the nearest.

        Args:
            dtype: Of its tensors.
        """
        boxes = {i: Box(box.low.to(dtype), box.high.to(dtype)) for i, box in self.boxes.items()}
        return Values(boxes, {i: slack.to(dtype) for i, slack in self.slack.items()})


@dataclass(frozen=True)
class Lower:
    """A function of the image that lies below a value: coefficients x + constant, before its minimum is taken.

    Attributes:
        bound: The minimum over the region, (N, S).
        coefficients: (N, S, *shape of the image).
        reached: By the position of an activation, the coefficients of its output, (N, S, *shape), where asked for.
        costs: What was subtracted for rounding, as `bound`.
    """

    bound: Tensor
    coefficients: Tensor
    reached: dict[int, Tensor]
    costs: Tensor


def interval_values(graph: BoundGraph, region: Region, *, rounding: bool = True, inner: bool = True) -> Values:
    """Boxes around every value by intervals (arXiv:1810.12715).

    Args:
        graph: The net.
        region: The inputs.
        rounding: Whether they are to hold for a float32 evaluation too, as proofs must; for training they need not.
        inner: Whether values inside a maximum are bounded too, which linear relaxation needs.
    """
    values = Values({}, {})
    wanted = None if inner else graph.boxed
    graph.meter.forwards += 2 * len(region.low)
    for position, node in enumerate(graph.nodes):
        if wanted is not None and position not in wanted:
            continue
        if node.operation is None:
            exact = region.low.dtype == graph.dtype
            values.boxes[position] = (Box if exact else outward_box)(region.low, region.high)
            continue
        boxes = [values.boxes[i] for i in node.inputs if i in values.boxes]
        values.boxes[position], slack = value_bounds(node, boxes, graph.consumers[position], rounding=rounding)
        if slack is not None:
            values.slack[position] = slack
    return values


def value_bounds(
    node: GraphNode, boxes: Sequence[Box], consumers: int = 1, *, rounding: bool = True
) -> tuple[Box, Tensor | None]:
    """The box around one value, and how far float32 may move it, by which the box is wider; None where it is exact.

    Args:
        node: The value; not the image.
        boxes: Around what it is computed from.
        consumers: Values that are computed from it.
        rounding: See `interval_values`.
    """
    rounded: Rounding | None = None
    single = boxes[0].low.dtype == torch.float32
    if isinstance(node.operation, Activation):
        box = Box(node.operation.apply(boxes[0].low), node.operation.apply(boxes[0].high))
        if rounding and node.operation.derivative is not None:
            often = 3 if single else 1  # Float32 ends are off by as much themselves.
            slack = torch.maximum(box.low.abs(), box.high.abs()) * (often * ULPS * UNIT)
            rounded = Rounding(slack, slack)
    else:
        assert isinstance(node.operation, Affine)
        box = node.operation.box(*boxes)
        rounded = node.operation.rounding(*boxes) if rounding else None
    if rounded is not None:
        box = Box(box.low - rounded.box, box.high + rounded.box)
    if rounding and single and consumers > 1:
        more = torch.maximum(box.low.abs(), box.high.abs()) * (2 * consumers * UNIT)
        return box, more if rounded is None else rounded.slack + more
    return box, None if rounded is None else rounded.slack


def lower_bound(
    graph: BoundGraph,
    values: Values,
    region: Region,
    start: int,
    coefficients: Tensor,
    slopes: Slopes | None = None,
    *,
    multipliers: Mapping[int, Tensor] | None = None,
    keep: bool = False,
    boxes_only: bool = False,
    guarded: bool = True,
    costed: bool = True,
    sums: ByRow | ByCone = BY_ROW,
) -> Lower:
    """Lower bounds on linear functions of a value, by one backward pass.

    Args:
        graph: The net.
        values: Bounds on the values before it.
        region: The inputs.
        start: Position of the value.
        coefficients: Of its numbers, (N, S, *shape).
        slopes: Of the lines below unstable ReLUs; None for the usual choice.
        multipliers: By the position of a ReLU's input, what its split constraints add to the coefficients of it,
            (N, S, *shape) (beta of arXiv:2103.06624).
        keep: Whether the coefficients at the outputs of activations are wanted.
        boxes_only: Whether the pass ends at activations and maxima, whose boxes then stand for them: intervals.
        guarded: Whether the bound is lowered by what the sums themselves may have rounded, as proofs must be.
        costed: Whether what float32 may move the values by is counted; a proof's is.
        sums: How the terms of a row are added.

    A guarded pass through a graph in float32 takes the region in float64, and sums in it.
    """
    rows, functions = coefficients.shape[:2]
    graph.meter.backwards += rows * functions
    graph.meter.forwards += rows * functions * int(torch.is_grad_enabled())
    assert costed or not guarded
    single = guarded and graph.dtype == torch.float32
    walk = _Walk(sums, single, coefficients.new_zeros((), dtype=torch.float64 if single else None))
    slopes, multipliers = slopes or {}, multipliers or {}
    pending = {start: coefficients}
    reached: dict[int, Tensor] = {}
    for position in range(start, 0, -1):
        a = pending.pop(position, None)
        if position in multipliers:
            a = multipliers[position] if a is None else a + multipliers[position]
        if a is None:
            continue
        node = graph.nodes[position]
        sources, operation = node.inputs, node.operation
        slack = values.slack.get(position)
        if costed and slack is not None and position not in walk.counted:
            walk.cost(position, a, slack)
        if boxes_only and _stands_for_box(node):
            box = values.boxes[position]
            walk.add(position, a.clamp(min=0), box.low)
            walk.add(position, a.clamp(max=0), box.high)
            continue
        if isinstance(operation, Activation):
            if keep:
                reached[position] = a
            box = values.boxes[node.inputs[0]]
            slope = slopes.get(position)
            lines = outward_lines(operation, box, slope) if single else operation.lines(box.low, box.high, slope)
            before, below = bent(a, _wide(lines.low_slope, a), _wide(lines.high_slope, a))
            backs: list[Tensor | None] = [before]
            walk.add(position, below, lines.high_intercept, one_sign=operation.derivative is None)
            if operation.derivative is not None:
                walk.add(position, a.clamp(min=0), lines.low_intercept)
        elif not keep and operation is not None and operation.pooling and operation.pooling.goes_at_once(multipliers):
            sources = node.inputs[:1]
            backs = [_through_windows(graph, values, position, a, slopes, walk)]
        else:
            assert isinstance(operation, Affine)
            if operation.offset is not None:
                walk.add(position, a, operation.offset())
            flat = a.flatten(0, 1)
            backs = [None if b is None else b.view(rows, functions, *b.shape[1:]) for b in operation.transpose(flat)]
        for source, back in zip(sources, backs, strict=True):
            if back is not None:
                pending[source] = pending[source] + back if source in pending else back
    image = pending.get(0)
    if image is None:
        image = coefficients.new_zeros(rows, functions, *graph.nodes[0].shape)
    image = image.to(region.low.dtype)
    if single and graph.consumers[0] > 1:
        largest = torch.maximum(region.low.abs(), region.high.abs())
        walk.cost(0, image, largest * (2 * graph.consumers[0] * UNIT))
    minimum, size = sums.minimum(region, image)
    if not guarded:
        return Lower(minimum + walk.constant - walk.costs, image, reached, walk.costs)
    costs = walk.costs + GUARD * (size + walk.constant.abs() + walk.costs) + single * UNDERFLOW
    return Lower(minimum + walk.constant - costs, image, reached, costs)


class _Walk:
    """The constant of a bound in the making, and what is to be subtracted for rounding."""

    def __init__(self, sums: ByRow | ByCone, single: bool, zero: Tensor) -> None:
        self.sums, self.single = sums, single
        self.constant = self.costs = zero
        self.counted: set[int] = set()
        """Positions whose rounding is counted elsewhere."""

    def add(self, position: int, a: Tensor, values: Tensor, *, one_sign: bool = False) -> None:
        """Add <a, values>; `one_sign` says that no two products have different signs."""
        total = self.sums.total(position, a, values, double=self.single, by_place=one_sign)
        self.constant = self.constant + total
        if self.single and one_sign:
            self.costs = self.costs + total.abs() * (2 * UNIT * (a.shape[2] + math.prod(a.shape[3:])))

    def cost(self, position: int, a: Tensor, slack: Tensor) -> None:
        """Count <|a|, slack>; slopes are not chosen by it, as it is some 1e-4 of a bound."""
        a = a.detach()
        if self.single and slack[0].numel() > COSTED:
            a = a.double()
        self.costs = self.costs + self.sums.size(position, a, slack) * (COSTS if self.single else 1)


def _through_windows(
    graph: BoundGraph, values: Values, position: int, a: Tensor, slopes: Slopes, walk: _Walk
) -> Tensor:
    """Coefficients before a max-pooling, whose lines go to the constant."""
    node = graph.nodes[position]
    assert isinstance(node.operation, Affine)
    pooling: Pooling = node.operation.pooling
    cut = graph.nodes[pooling.windows].operation
    assert isinstance(cut, Affine)
    lines = pooling.lines(values.boxes, slopes, outward=walk.single)
    back, below = pooling.back(a, lines, graph.nodes[node.inputs[0]].shape, cut.transpose)
    walk.add(position, below, lines.intercept, one_sign=True)
    slack, source = lines.slack, node.inputs[0]
    if walk.single and source in values.slack and graph.consumers[source] == 2:
        # A maximum moves by no more than its values do, and the weights of a window sum to 1: a quarter of the numbers.
        worst = cut.linear(values.slack[source]).amax(1)
        slack = worst if slack is None else slack + worst
        walk.counted.add(source)
    if slack is not None:
        walk.cost(position, a, slack)
    return back


def _stands_for_box(node: GraphNode) -> bool:
    """Whether intervals know the value better than through its inputs: an activation or a maximum."""
    return isinstance(node.operation, Activation) or (
        node.operation is not None and node.operation.interval is not None
    )


def _wide(slope: Tensor, a: Tensor) -> Tensor:
    return slope if slope.ndim == a.ndim else slope[:, None]
