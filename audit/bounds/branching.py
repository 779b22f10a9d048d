"""Branch and bound over the signs of ReLU inputs (arXiv:2103.06624): complete for nets of ReLUs, given time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from audit.bounds.activations import Activation
from audit.bounds.alpha import Optimised, SignSplit, constraint_terms, optimise
from audit.bounds.graph import BoundGraph, Box
from audit.bounds.propagate import Values, lower_bound
from audit.bounds.region import Region

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

    def run(
        self, begin: Optimised, functions: Sequence[int], *, stop: Callable[[int], bool], batch: int = BATCH
    ) -> Branched:
        """SignSplit until every sub-problem is proven, a point breaks, or it is to stop.

        Args:
            begin: What `optimise` reached on the whole region for all functions, in the precision of the search.
            functions: Which of them are open.
            stop: Called with the number of sub-problems bounded; true to stop.
            batch: Sub-problems split at once.
        """
        heap = []
        for f in functions:
            slopes = {i: a[0, f].clone() for i, a in begin.slopes.items()}
            heap.append(_Problem(float(begin.bound[0, f]), next(self._numbers), f, (), slopes, {}))
        heapq.heapify(heap)
        bounded = 0
        while heap:
            if stop(bounded):
                return Branched("open", heap[0].bound, bounded)
            parents = [heapq.heappop(heap) for _ in range(min(batch, len(heap)))]
            children = list(self._children(parents))
            if not children:
                return Branched("open", parents[0].bound, bounded)
            bounded += len(children)
            rest, point = self._bounded(children)
            if point is not None:
                return Branched("broken", heap[0].bound if heap else 0.0, bounded, point)
            for problem in rest:
                heapq.heappush(heap, problem)
        return Branched("proven", self._smallest, bounded)

    def _values_of(self, problems: Sequence[_Problem], values: Values) -> Values:
        """The bounds with the signs of each problem, one row a problem."""
        rows = values.select(torch.zeros(len(problems), dtype=torch.int64, device=self.region.low.device))
        touched = sorted({position for p in problems for position, _, _ in p.splits})
        for position in touched:
            low, high = rows.boxes[position].low.clone(), rows.boxes[position].high.clone()
            for row, problem in enumerate(problems):
                for at, number, sign in problem.splits:
                    if at == position and sign > 0:
                        low[row].view(-1)[number].clamp_(min=0)
                    elif at == position:
                        high[row].view(-1)[number].clamp_(max=0)
            rows.boxes[position] = Box(low, high)
        return rows

    def _splits_of(self, problems: Sequence[_Problem]) -> dict[int, SignSplit]:
        splits = {}
        device = self.region.low.device
        for position in sorted({position for p in problems for position, _, _ in p.splits}):
            own = [[(n, s) for at, n, s in p.splits if at == position] for p in problems]
            width = max(map(len, own))
            padded = [row + [(0, 0)] * (width - len(row)) for row in own]
            table = torch.tensor(padded, device=device)
            splits[position] = SignSplit(table[..., 0], table[..., 1])
        return splits

    def _functions_of(self, problems: Sequence[_Problem], dtype: torch.dtype) -> Tensor:
        index = torch.tensor([p.function for p in problems], device=self.region.low.device)
        return self.coefficients[0, index][:, None].to(dtype)

    def _region_of(self, problems: Sequence[_Problem], region: Region) -> Region:
        return region.select(torch.zeros(len(problems), dtype=torch.int64, device=self.region.low.device))

    def _slopes_of(self, problems: Sequence[_Problem], dtype: torch.dtype) -> dict[int, Tensor]:
        return {i: torch.stack([p.slopes[i] for p in problems])[:, None].to(dtype) for i in problems[0].slopes}

    def _multipliers_of(
        self, problems: Sequence[_Problem], splits: dict[int, SignSplit], dtype: torch.dtype
    ) -> dict[int, Tensor]:
        multipliers = {}
        for position, split in splits.items():
            table = torch.zeros(len(problems), 1, split.numbers.shape[1], dtype=dtype, device=self.region.low.device)
            for row, problem in enumerate(problems):
                beta = problem.multipliers.get(position)
                if beta is not None:
                    table[row, 0, : len(beta)] = beta.to(dtype)
            multipliers[position] = table
        return multipliers

    def _children(self, parents: Sequence[_Problem]) -> Iterator[_Problem]:
        """Both signs of the ReLU that promises most, for each parent that has an unstable one."""
        for parent, choices in zip(parents, self._candidates(parents), strict=True):
            if not choices:
                return  # Nothing to split and not proven: rounding alone is left, and stays open.
            pairs = [[self._child(parent, at, number, sign) for sign in (1, -1)] for at, number in choices]
            if len(pairs) > 1:
                flat = [child for pair in pairs for child in pair]
                quick = self._quick(flat).view(-1, 2).amin(1)
                pairs = [pairs[int(quick.argmax())]]
            yield from pairs[0]

    def _child(self, parent: _Problem, at: int, number: int, sign: int) -> _Problem:
        multipliers = dict(parent.multipliers)
        return replace(
            parent, number=next(self._numbers), splits=(*parent.splits, (at, number, sign)), multipliers=multipliers
        )

    def _quick(self, problems: Sequence[_Problem]) -> Tensor:
        """Bounds without optimising, (M,)."""
        dtype = self.search.dtype
        splits = self._splits_of(problems)
        terms = constraint_terms(self.search, splits, self._multipliers_of(problems, splits, dtype))
        return lower_bound(
            self.search,
            self._values_of(problems, self._near),
            self._region_of(problems, self._near_region),
            self.search.output,
            self._functions_of(problems, dtype),
            self._slopes_of(problems, dtype),
            multipliers=terms,
        ).bound[:, 0]

    def _candidates(self, problems: Sequence[_Problem]) -> list[list[tuple[int, int]]]:
        """The ReLUs whose relaxation costs each problem's bound most: their intercepts' share (arXiv:1909.06588)."""
        dtype = self.search.dtype
        splits = self._splits_of(problems)
        values = self._values_of(problems, self._near)
        slopes = self._slopes_of(problems, dtype)
        lower = lower_bound(
            self.search,
            values,
            self._region_of(problems, self._near_region),
            self.search.output,
            self._functions_of(problems, dtype),
            slopes,
            multipliers=constraint_terms(self.search, splits, self._multipliers_of(problems, splits, dtype)),
            keep=True,
        )
        scores = []
        for position, a in lower.reached.items():
            node = self.search.nodes[position]
            assert isinstance(node.operation, Activation)
            if node.operation.derivative is not None:
                continue
            box = values.boxes[node.inputs[0]]
            unstable = (box.low < 0) & (box.high > 0)
            width = torch.where(unstable, box.high - box.low, 1)
            above = -box.low * box.high / width
            slope = slopes[position][:, 0] if position in slopes else torch.zeros_like(box.low)
            below = torch.minimum(box.high * (1 - slope), -box.low * slope)
            score = torch.where(unstable, -a[:, 0].clamp(max=0) * above + a[:, 0].clamp(min=0) * below + 1e-12, 0)
            scores.append(score.flatten(1))
        if not scores:
            return [[] for _ in problems]
        inputs = [self.search.nodes[position].inputs[0] for position in lower.reached if self._is_relu(position)]
        sizes = [s.shape[1] for s in scores]
        top = torch.cat(scores, 1).topk(min(CANDIDATES, sum(sizes)), dim=1)
        chosen: list[list[tuple[int, int]]] = []
        for row_scores, row in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            choices = []
            for score_, flat in zip(row_scores, row, strict=True):
                if score_ <= 0:
                    continue
                layer, number = 0, flat
                while number >= sizes[layer]:
                    number -= sizes[layer]
                    layer += 1
                choices.append((inputs[layer], number))
            chosen.append(choices)
        return chosen

    def _is_relu(self, position: int) -> bool:
        operation = self.search.nodes[position].operation
        return isinstance(operation, Activation) and operation.derivative is None

    def _bounded(self, problems: Sequence[_Problem]) -> tuple[list[_Problem], Tensor | None]:
        """The problems that are still open, with better bounds; a point that breaks, if one was met."""
        dtype = self.search.dtype
        splits = self._splits_of(problems)
        found = optimise(
            self.search,
            self._values_of(problems, self._near),
            self._region_of(problems, self._near_region),
            self._functions_of(problems, dtype),
            steps=CHILD_STEPS,
            slopes=self._slopes_of(problems, dtype),
            splits=splits,
            multipliers=self._multipliers_of(problems, splits, dtype),
        )
        exact = self.graph.dtype
        lower = lower_bound(
            self.graph,
            self._values_of(problems, self.values),
            self._region_of(problems, self.region),
            self.graph.output,
            self._functions_of(problems, exact),
            {i: a.to(exact) for i, a in found.slopes.items()},
            multipliers=constraint_terms(self.graph, splits, {i: b.to(exact) for i, b in found.multipliers.items()}),
        )
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
            counts = {i: int((split.sign[row] != 0).sum()) for i, split in splits.items()}
            betas = {i: b[row, 0, : counts[i]].clone() for i, b in found.multipliers.items() if counts[i]}
            rest.append(replace(problem, bound=bound, slopes=slopes, multipliers=betas))
        return rest, None
