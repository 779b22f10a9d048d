"""The bounds of a graph from the cheapest to the dearest, each on what those before left open."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from audit.bounds.alpha import Optimised, optimise
from audit.bounds.branching import BranchAndBound
from audit.bounds.graph import BoundGraph
from audit.bounds.outcome import Budget, Outcome, Rung
from audit.bounds.propagate import Lower, Values, lower_bound
from audit.bounds.region import Region
from audit.bounds.sweeps import Sweeps, rows_that_fit
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
        for row in left().tolist():
            if stopping is not None and stopping():
                break
            index = torch.tensor([row], device=best.device)
            outcomes[row] = self._single(
                values.select(index),
                region.select(index),
                functions[row : row + 1],
                best[row : row + 1],
                partial(breaks, int(rows[row])),
                budget,
                outcomes[row],
                stopping,
            )
        return outcomes

    def _single(
        self,
        near: Values,
        region: Region,
        functions: Tensor,
        best: Tensor,
        breaks: Callable[[Tensor], Tensor],
        budget: Budget,
        outcome: Outcome,
        stopping: Callable[[], bool] | None,
    ) -> Outcome:
        """The dear bounds, of one image."""
        begun = time.monotonic()

        def late() -> bool:
            over = budget.seconds is not None and time.monotonic() - begun > budget.seconds
            return over or (stopping is not None and stopping())

        def result(verdict: Literal["proven", "broken", "open"], rung: Rung | None, **more: object) -> Outcome:
            seconds = outcome.seconds + time.monotonic() - begun
            changes = {"verdict": verdict, "rung": rung, "bound": float(best.min()), "seconds": seconds, **more}
            return replace(outcome, **changes)  # type: ignore[arg-type]

        if "crown-tightened" in budget.rungs:
            for inside in (False, True) if self.search.inside else (True,):
                with torch.no_grad():
                    near = tightened(self.search, near, region, late, inside=inside)
                best = torch.maximum(best, self.sweeps.bounds(near, region, functions))
                if bool((best > self.tie).all()):
                    return result("proven", "crown-tightened")
        if "alpha-crown" not in budget.rungs or late():
            return result("open", None)
        values = self.sweeps.exact(near, region)
        open_ = (best[0] <= self.tie).nonzero().flatten()
        found, lower = self._optimised(values, region, functions[:, open_], late)
        best = best.clone()
        best[0, open_] = torch.maximum(best[0, open_], lower.bound[0])
        if bool((best > self.tie).all()):
            return result("proven", "alpha-crown")
        points = region.minimiser(lower.coefficients)[0]
        broken = breaks(points)
        if bool(broken.any()):
            return result("broken", "alpha-crown", adversarial=points[broken.nonzero()[0, 0]])
        if "branch-and-bound" not in budget.rungs:
            return result("open", None)
        still = [k for k, f in enumerate(open_.tolist()) if float(best[0, f]) <= self.tie]
        search = BranchAndBound(self.graph, self.search, values, region, functions[:, open_], breaks, self.tie)
        branched = search.run(found._replace(bound=lower.bound), still, problems=budget.problems, late=late)
        if branched.outcome == "open":
            best[0] = torch.where(best[0] > self.tie, best[0], max(branched.bound, float(best.min())))
            return result("open", None, problems=branched.problems)
        if branched.outcome == "proven":
            best[0] = torch.where(best[0] > self.tie, best[0], branched.bound)
        return result(
            branched.outcome, "branch-and-bound", problems=branched.problems, adversarial=branched.adversarial
        )

    def _optimised(
        self, values: Values, region: Region, functions: Tensor, late: Callable[[], bool]
    ) -> tuple[Optimised, Lower]:
        """Slopes found in float32, and the bounds that they give in float64, a few functions at a time."""
        near, place = values.to(self.search.dtype), region.to(self.search.dtype)

        def compute(rows: slice) -> tuple[Optimised, Lower]:
            some = functions[:, rows]
            found = optimise(self.search, near, place, some.to(self.search.dtype), steps=SLOPE_STEPS, late=late)
            slopes = {i: slope.to(self.graph.dtype) for i, slope in found.slopes.items()}
            with torch.no_grad():
                return found, lower_bound(self.graph, values, region, self.graph.output, some, slopes)

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
