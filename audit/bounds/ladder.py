"""The bounds of a graph from the cheapest to the dearest, each on what those before left open."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from audit.bounds.alpha import Optimised, optimise
from audit.bounds.branching import BranchAndBound
from audit.bounds.graph import BoundGraph
from audit.bounds.open_image import OpenImage, rows_together, timed
from audit.bounds.outcome import Budget, Outcome, Rung
from audit.bounds.propagate import Lower, Values, lower_bound
from audit.bounds.region import Region
from audit.bounds.sweeps import Sweeps, images_at_once, open_first, rows_that_fit
from audit.bounds.tighten import tightened
from audit.models.batching import ExecutionLayout, in_batches

SLOPE_STEPS = 20
"""Steps of alpha-CROWN."""


class Ladder:
    """Proves functions of a graph's outputs over regions."""

    def __init__(self, graph: BoundGraph, search: BoundGraph, tie: float, batch_size: int) -> None:
        """Nothing is computed yet.

        Args:
            graph: The net in float64.
            search: The same in float32, for searches, and for bounds that hold with its rounding.
            tie: What a bound must exceed to count.
            batch_size: Rows of a region that are bounded at once; halved when memory runs out.
        """
        self.sweeps = Sweeps(graph, search, tie)
        self.graph, self.search, self.tie = graph, search, tie
        self.layout = ExecutionLayout(batch_size=batch_size)

    def prove(
        self,
        region: Region,
        functions: Tensor,
        breaks: Callable[[int, Tensor], Tensor],
        budget: Budget,
        stopping: Callable[[], bool] | None = None,
    ) -> list[Outcome]:
        """Prove functions of the outputs above 0 on each row of a region.

        Args:
            region: The inputs, float64.
            functions: Their coefficients, float64 (N, S, outputs); rows of zeros are proven.
            breaks: Given a row and points (M, *shape), which of them break, bool (M,).
            budget: How far to go.
            stopping: When it turns true, what is not decided stays open.
        """
        count = len(region.low)

        def compute(rows: slice) -> list[Outcome]:
            index = torch.arange(count, device=region.low.device)[rows]
            return self._ladder(region.select(index), functions[index], index, breaks, budget, stopping)

        return [outcome for part in in_batches(count, self.layout, compute) for outcome in part]

    def _ladder(
        self,
        region: Region,
        functions: Tensor,
        rows: Tensor,
        breaks: Callable[[int, Tensor], Tensor],
        budget: Budget,
        stopping: Callable[[], bool] | None,
    ) -> list[Outcome]:
        begun = time.monotonic()
        count = len(rows)
        best = torch.where(functions.abs().sum(2) > 0, -torch.inf, torch.inf).to(torch.float64)
        proven: list[Rung | None] = [None] * count
        values = self.sweeps.values(region)

        def left() -> Tensor:
            return torch.tensor([i for i, rung in enumerate(proven) if rung is None], device=best.device).long()

        for rung in ("interval-bounds", "crown"):
            index = left()
            if rung in budget.rungs and len(index):
                part = (values.select(index), region.select(index), functions[index])
                bounds = self.sweeps.bounds(*part, boxes_only=rung == "interval-bounds")
                best[index] = torch.maximum(best[index], bounds)
                for row in index[(best[index] > self.tie).all(1)].tolist():
                    proven[row] = rung
        share = (time.monotonic() - begun) / max(1, count)
        outcomes = [
            Outcome("proven" if rung else "open", rung, float(best[i].min()), seconds=share)
            for i, rung in enumerate(proven)
        ]
        images = [
            OpenImage(
                row=row,
                values=values.select(slice(row, row + 1)),
                region=region.select(slice(row, row + 1)),
                functions=functions[row : row + 1],
                best=best[row : row + 1],
                tie=self.tie,
                outcome=outcomes[row],
                limit=budget.seconds,
            )
            for row in left().tolist()
        ]
        self._dear(images, lambda image, points: breaks(int(rows[image.row]), points), budget, stopping)
        for image in images:
            outcomes[image.row] = image.outcome
        return outcomes

    def _dear(
        self,
        images: Sequence[OpenImage],
        breaks: Callable[[OpenImage, Tensor], Tensor],
        budget: Budget,
        stopping: Callable[[], bool] | None,
    ) -> None:
        """The dear bounds: image by image, but slopes are optimised for several at once."""
        if "crown-tightened" in budget.rungs:
            for image in images:
                if stopping is None or not stopping():
                    self._tighten(image, stopping)
        if "alpha-crown" not in budget.rungs:
            return
        left = [image for image in images if image.open and not image.late]
        layout = ExecutionLayout(batch_size=images_at_once(self.graph, max((i.best.shape[1] for i in left), default=1)))

        def optimised(rows: slice) -> None:
            if stopping is None or not stopping():
                self._optimise(left[rows], breaks, stopping)

        for _ in in_batches(len(left), layout, optimised):
            pass
        if "branch-and-bound" in budget.rungs:
            for image in left:
                if image.open and image.optimised is not None:
                    self._branch(image, partial(breaks, image), budget.problems, stopping)

    def _tighten(self, image: OpenImage, stopping: Callable[[], bool] | None) -> None:
        """Bound the inputs of its activations layer by layer, those inside of max-poolings last."""
        with timed([image], stopping) as late:
            for inside in (False, True) if self.search.inside else (True,):
                with torch.no_grad():
                    image.values = tightened(self.search, image.values, image.region, late, inside=inside)
                image.raise_bounds(
                    self.sweeps.bounds(image.values, image.region, image.functions)[0], "crown-tightened"
                )
                if not image.open:
                    return

    def _optimise(
        self,
        images: Sequence[OpenImage],
        breaks: Callable[[OpenImage, Tensor], Tensor],
        stopping: Callable[[], bool] | None,
    ) -> None:
        """Optimise the slopes of the functions that are open, and try where their bounds have their minimum."""
        with timed(images, stopping) as late:
            near, region = rows_together(images)
            values = self.sweeps.exact(near, region)
            best = torch.cat([image.best for image in images])
            order, functions = open_first(best <= self.tie, torch.cat([image.functions for image in images]))
            found, lower = self._optimised(values, region, functions, late)
            points = region.minimiser(lower.coefficients)
            for k, image in enumerate(images):
                open_ = image.best[0] <= self.tie
                image.asked, image.exact = order[k, : int(open_.sum())], values.select(slice(k, k + 1))
                count = len(image.asked)
                bound = lower.bound[k, :count]
                slopes = {i: slope[k : k + 1, :count] for i, slope in found.slopes.items()}
                image.optimised = Optimised(bound[None], slopes, {})
                image.raise_bounds(bound, "alpha-crown", image.asked)
                if image.open and bool((broken := breaks(image, points[k, :count])).any()):
                    image.settle("broken", "alpha-crown", adversarial=points[k, broken.nonzero()[0, 0]])

    def _optimised(
        self, values: Values, region: Region, functions: Tensor, late: Callable[[], bool]
    ) -> tuple[Optimised, Lower]:
        """Slopes found in float32, and the bounds that they give in float64; of one image a few functions at a time."""
        near, place = values.to(self.search.dtype), region.to(self.search.dtype)

        def compute(columns: slice) -> tuple[Optimised, Lower]:
            some = functions[:, columns]
            found = optimise(self.search, near, place, some.to(self.search.dtype), steps=SLOPE_STEPS, late=late)
            slopes = {i: slope.to(self.graph.dtype) for i, slope in found.slopes.items()}
            with torch.no_grad():
                return found, lower_bound(self.graph, values, region, self.graph.output, some, slopes)

        if len(functions) > 1:
            return compute(slice(None))
        layout = ExecutionLayout(batch_size=rows_that_fit(self.graph, 2))
        parts = list(in_batches(functions.shape[1], layout, compute))
        found = Optimised(
            torch.cat([part.bound for part, _ in parts], 1),
            {i: torch.cat([part.slopes[i] for part, _ in parts], 1) for i in parts[0][0].slopes},
            {},
        )
        bounds, coefficients, costs = (
            torch.cat([getattr(lower, name) for _, lower in parts], 1) for name in ("bound", "coefficients", "costs")
        )
        return found, Lower(bounds, coefficients, {}, costs)

    def _branch(
        self,
        image: OpenImage,
        breaks: Callable[[Tensor], Tensor],
        problems: int,
        stopping: Callable[[], bool] | None,
    ) -> None:
        """Branch and bound from the slopes that were found."""
        assert image.optimised is not None and image.exact is not None and image.asked is not None
        functions, best = image.functions[:, image.asked], image.best
        still = [k for k, f in enumerate(image.asked.tolist()) if float(best[0, f]) <= self.tie]
        with timed([image], stopping) as late:
            search = BranchAndBound(self.graph, self.search, image.exact, image.region, functions, breaks, self.tie)
            branched = search.run(image.optimised, still, problems=problems, late=late)
            reached = max(branched.bound, float(best.min())) if branched.outcome == "open" else branched.bound
            if branched.outcome != "broken":
                image.best = torch.where(best > self.tie, best, reached)
            rung: Rung | None = None if branched.outcome == "open" else "branch-and-bound"
            image.settle(branched.outcome, rung, problems=branched.problems, adversarial=branched.adversarial)
