"""Branch and bound over the signs of ReLU inputs (arXiv:2103.06624): complete for nets of ReLUs, given time."""

from __future__ import annotations

import heapq
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from audit.bounds.activations import Activation
from audit.bounds.alpha import Optimised, SignSplit, constraint_terms, optimise
from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import Lower, Values, lower_bound
from audit.bounds.region import Region
from audit.models.batching import ExecutionLayout, in_batches

Decision = Literal["proven", "broken", "open"]

BATCH = 32
"""Sub-problems that are split at once."""
CANDIDATES = 3
"""ReLUs of a sub-problem whose children are bounded before one is chosen (arXiv:2104.06718)."""
CHILD_STEPS = 12


@dataclass(order=True)
class _Problem:
    """A function on the part of the region where some ReLU inputs have given signs; smallest bound first."""

    bound: float
    number: int
    function: int = field(compare=False)
    splits: tuple[tuple[int, int, int], ...] = field(compare=False)
    """Position of a ReLU's input, which of its numbers, sign."""
    slopes: dict[int, Tensor] = field(compare=False)
    multipliers: dict[int, Tensor] = field(compare=False)


@dataclass(frozen=True)
class Branched:
    """What branch and bound came to on one image.

    Attributes:
        outcome: "proven" when every sub-problem is, "broken" when a point was found that breaks, else "open".
        bound: The smallest bound of the sub-problems: those left, or those proven where none is left.
        problems: Sub-problems bounded.
        adversarial: The point that breaks, shaped as the image; None without one.
    """

    outcome: Decision
    bound: float
    problems: int
    adversarial: Tensor | None = None


class _Rows(NamedTuple):
    """Sub-problems as what a backward pass takes, one row each."""

    values: Values
    region: Region
    coefficients: Tensor
    slopes: dict[int, Tensor]
    splits: dict[int, SignSplit]
    multipliers: dict[int, Tensor]


class BranchAndBound:
    """Branch and bound on one image.

    The search runs on a graph in float32 where there is one; a sub-problem counts as proven only by a float64 pass.
    """

    def __init__(
        self,
        graph: BoundGraph,
        search: BoundGraph,
        values: Values,
        region: Region,
        coefficients: Tensor,
        breaks: Callable[[Tensor], Tensor],
        tie: float = 0.0,
    ) -> None:
        """Nothing is computed yet.

        Args:
            graph: The net in float64.
            search: The same net in the precision of the search.
            values: Bounds on the values of `graph`, one row.
            region: The image's, one row.
            coefficients: Functions of the logits to be proven above 0, (1, S, classes).
            breaks: Whether points (M, *shape) break the net, bool (M,).
            tie: What a bound must exceed to count.
        """
        self.tie = tie
        self.graph, self.search, self.values, self.region = graph, search, values, region
        self.coefficients, self.breaks = coefficients, breaks
        self._numbers = iter(range(2**62))
        self._smallest = float("inf")
        self._near, self._near_region = values.to(search.dtype), region.to(search.dtype)
        self._layout = ExecutionLayout(batch_size=2 * BATCH * CANDIDATES)

    def run(
        self,
        begin: Optimised,
        functions: Sequence[int],
        *,
        problems: int,
        late: Callable[[], bool],
        batch: int = BATCH,
    ) -> Branched:
        """Split until every sub-problem is proven, a point breaks, or it is to stop.

        Args:
            begin: What `optimise` reached on the whole region for all functions, in the precision of the search.
            functions: Which of them are open.
            problems: Sub-problems to bound at most, up to those of the last step.
            late: Turns true when it is to stop.
            batch: Sub-problems split at once.
        """
        self._late = late
        heap = []
        for f in functions:
            slopes = {i: a[0, f].clone() for i, a in begin.slopes.items()}
            heap.append(_Problem(float(begin.bound[0, f]), next(self._numbers), f, (), slopes, {}))
        heapq.heapify(heap)
        bounded = 0
        while heap:
            if bounded >= problems or late():
                return Branched("open", heap[0].bound, bounded)
            parents = [heapq.heappop(heap) for _ in range(min(batch, len(heap)))]
            children = list(self._children(parents))
            if not children:
                return Branched("open", parents[0].bound, bounded)
            bounded += len(children)
            for rest, point in in_batches(len(children), self._layout, partial(self._bounded, children)):
                if point is not None:
                    return Branched("broken", heap[0].bound if heap else 0.0, bounded, point)
                for problem in rest:
                    heapq.heappush(heap, problem)
        return Branched("proven", self._smallest, bounded)

    def _rows(self, problems: Sequence[_Problem], graph: BoundGraph) -> _Rows:
        """Sub-problems as tensors, in the precision of a graph."""
        dtype, device = graph.dtype, self.region.low.device
        region, values = (self.region, self.values) if graph is self.graph else (self._near_region, self._near)
        index = torch.tensor([p.function for p in problems], device=device)
        splits = self._splits_of(problems)
        multipliers = {}
        for position, split in splits.items():
            table = torch.zeros(len(problems), 1, split.numbers.shape[1], dtype=dtype, device=device)
            for row, problem in enumerate(problems):
                beta = problem.multipliers.get(position)
                if beta is not None:
                    table[row, 0, : len(beta)] = beta.to(dtype)
            multipliers[position] = table
        return _Rows(
            _with_signs(values.repeated(len(problems)), splits),
            region.select(torch.zeros_like(index)),
            self.coefficients[0, index][:, None].to(dtype),
            {i: torch.stack([p.slopes[i] for p in problems])[:, None].to(dtype) for i in problems[0].slopes},
            splits,
            multipliers,
        )

    def _splits_of(self, problems: Sequence[_Problem]) -> dict[int, SignSplit]:
        splits = {}
        for position in sorted({position for p in problems for position, _, _ in p.splits}):
            own = [[(n, s) for at, n, s in p.splits if at == position] for p in problems]
            width = max(map(len, own))
            padded = [row + [(0, 0)] * (width - len(row)) for row in own]
            table = torch.tensor(padded, device=self.region.low.device)
            splits[position] = SignSplit(table[..., 0], table[..., 1])
        return splits

    def _children(self, parents: Sequence[_Problem]) -> Iterator[_Problem]:
        """Both signs of the ReLU that promises most, for each parent that has an unstable one."""
        for parent, choices in zip(parents, self._candidates(parents), strict=True):
            if not choices:
                return  # Nothing to split and not proven: rounding alone is left, and stays open.
            pairs = [[self._child(parent, at, number, sign) for sign in (1, -1)] for at, number in choices]
            if len(pairs) > 1:
                flat = [child for pair in pairs for child in pair]
                bounds = list(in_batches(len(flat), self._layout, partial(self._quick, flat)))
                quick = torch.cat(bounds).view(-1, 2).amin(1)
                pairs = [pairs[int(quick.argmax())]]
            yield from pairs[0]

    def _child(self, parent: _Problem, at: int, number: int, sign: int) -> _Problem:
        return replace(parent, number=next(self._numbers), splits=(*parent.splits, (at, number, sign)))

    def _quick(self, problems: Sequence[_Problem], part: slice) -> Tensor:
        """Bounds of a part without optimising, (M,)."""
        return _lower(self.search, self._rows(problems[part], self.search)).bound[:, 0]

    def _candidates(self, problems: Sequence[_Problem]) -> list[list[tuple[int, int]]]:
        """The ReLUs whose relaxation costs each problem's bound most: their intercepts' share (arXiv:1909.06588)."""
        rows = self._rows(problems, self.search)
        scores: dict[int, Tensor] = {}
        for position, a in _lower(self.search, rows, keep=True).reached.items():
            node = self.search.nodes[position]
            assert isinstance(node.operation, Activation)
            if node.operation.derivative is not None:
                continue
            box = rows.values.boxes[node.inputs[0]]
            unstable = (box.low < 0) & (box.high > 0)
            width = torch.where(unstable, box.high - box.low, 1)
            above = -box.low * box.high / width
            slope = rows.slopes[position][:, 0] if position in rows.slopes else torch.zeros_like(box.low)
            below = torch.minimum(box.high * (1 - slope), -box.low * slope)
            score = torch.where(unstable, -a[:, 0].clamp(max=0) * above + a[:, 0].clamp(min=0) * below + 1e-12, 0)
            scores[position] = score.flatten(1)
        if not scores:
            return [[] for _ in problems]
        inputs = [self.search.nodes[position].inputs[0] for position in scores]
        begins = [0, *accumulate(score.shape[1] for score in scores.values())]
        top = torch.cat(list(scores.values()), 1).topk(min(CANDIDATES, begins[-1]), dim=1)
        chosen: list[list[tuple[int, int]]] = []
        for best, places in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            layers = [bisect(begins, place) - 1 for place in places]
            found = zip(best, layers, places, strict=True)
            chosen.append([(inputs[layer], place - begins[layer]) for score, layer, place in found if score > 0])
        return chosen

    def _bounded(self, children: Sequence[_Problem], part: slice) -> tuple[list[_Problem], Tensor | None]:
        """Those of a part that are still open, with better bounds; a point that breaks, if one was met."""
        problems = children[part]
        rows = self._rows(problems, self.search)
        found = optimise(
            self.search,
            rows.values,
            rows.region,
            rows.coefficients,
            steps=CHILD_STEPS,
            slopes=rows.slopes,
            splits=rows.splits,
            multipliers=rows.multipliers,
            late=self._late,
        )
        exact = self.graph.dtype
        slopes, multipliers = ({i: t.to(exact) for i, t in kind.items()} for kind in (found.slopes, found.multipliers))
        lower = _lower(self.graph, self._rows(problems, self.graph)._replace(slopes=slopes, multipliers=multipliers))
        points = self.region.minimiser(lower.coefficients[:, 0][None])[0]
        broken = self.breaks(points)
        if bool(broken.any()):
            return [], points[broken.nonzero()[0, 0]]
        rest = []
        for row, problem in enumerate(problems):
            bound = float(lower.bound[row, 0])
            if bound > self.tie:
                self._smallest = min(self._smallest, bound)
                continue
            slopes = {i: a[row, 0].clone() for i, a in found.slopes.items()}
            counts = {i: int((split.sign[row] != 0).sum()) for i, split in rows.splits.items()}
            betas = {i: b[row, 0, : counts[i]].clone() for i, b in found.multipliers.items() if counts[i]}
            rest.append(replace(problem, bound=bound, slopes=slopes, multipliers=betas))
        return rest, None


def _lower(graph: BoundGraph, rows: _Rows, *, keep: bool = False) -> Lower:
    """Bounds on the function of each row, by one backward pass."""
    terms = constraint_terms(graph, rows.splits, rows.multipliers)
    return lower_bound(
        graph,
        rows.values,
        rows.region,
        graph.output,
        rows.coefficients,
        rows.slopes,
        multipliers=terms,
        keep=keep,
        guarded=graph.dtype == torch.float64,
    )


def _with_signs(values: Values, splits: Mapping[int, SignSplit]) -> Values:
    """The bounds with the signs that each row gives to ReLU inputs."""
    boxes = dict(values.boxes)
    for position, (numbers, sign) in splits.items():
        low, high = (end.flatten(1) for end in boxes[position])
        least = torch.where(sign > 0, 0.0, -torch.inf).to(low.dtype)
        most = torch.where(sign < 0, 0.0, torch.inf).to(low.dtype)
        low, high = low.scatter_reduce(1, numbers, least, "amax"), high.scatter_reduce(1, numbers, most, "amin")
        boxes[position] = Box(low.view_as(boxes[position].low), high.view_as(boxes[position].high))
    return Values(boxes, values.slack)
