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
from audit.bounds.propagate import Values, interval_values, lower_bound
from audit.bounds.region import Region
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
            search: The same in the precision of searches.
            tie: What a bound must exceed to count.
            batch_size: Rows of a region that are bounded at once; halved when memory runs out.
        """
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
        needed = functions.abs().sum(2) > 0
        best = torch.where(needed, -torch.inf, torch.inf).to(torch.float64)
        proven: list[Rung | None] = [None] * count
        with torch.no_grad():
            values = interval_values(self.graph, region)

        def settle(rung: Rung, index: Tensor, bounds: Tensor) -> None:
            best[index] = torch.maximum(best[index], bounds)
            for row in index.tolist():
                if proven[row] is None and bool((best[row] > self.tie).all()):
                    proven[row] = rung

        def left() -> Tensor:
            return torch.tensor(
                [i for i, rung in enumerate(proven) if rung is None], dtype=torch.int64, device=best.device
            )

        everything = torch.arange(count, device=best.device)
        with torch.no_grad():
            if "interval-bounds" in budget.rungs:
                settle("interval-bounds", everything, self.bounds(values, region, functions, boxes_only=True))
            if "crown" in budget.rungs and len(index := left()):
                settle("crown", index, self.bounds(values.select(index), region.select(index), functions[index]))
        outcomes = [Outcome("proven" if r else "open", r, float(best[i].min())) for i, r in enumerate(proven)]
        share = (time.monotonic() - begun) / max(1, count)
        outcomes = [replace(outcome, seconds=share) for outcome in outcomes]
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
        values: Values,
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

        def result(verdict: Literal["proven", "broken", "open"], rung: Rung | None, **more: object) -> Outcome:
            seconds = outcome.seconds + time.monotonic() - begun
            changes = {"verdict": verdict, "rung": rung, "bound": float(best.min()), "seconds": seconds, **more}
            return replace(outcome, **changes)  # type: ignore[arg-type]

        with torch.no_grad():
            if "crown-tightened" in budget.rungs:
                values = tightened(self.graph, values, region)
                best = torch.maximum(best, self.bounds(values, region, functions))
                if bool((best > self.tie).all()):
                    return result("proven", "crown-tightened")
        if "alpha-crown" not in budget.rungs:
            return result("open", None)
        open_ = (best[0] <= self.tie).nonzero().flatten()
        found = self._optimised(values, region, functions[:, open_])
        with torch.no_grad():
            lower = lower_bound(
                self.graph,
                values,
                region,
                self.graph.output,
                functions[:, open_],
                {i: a.double() for i, a in found.slopes.items()},
            )
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

        def stop(problems: int) -> bool:
            late = budget.seconds is not None and time.monotonic() - begun > budget.seconds
            return problems >= budget.problems or late or (stopping is not None and stopping())

        search = BranchAndBound(self.graph, self.search, values, region, functions[:, open_], breaks, self.tie)
        branched = search.run(found._replace(bound=lower.bound), still, stop=stop)
        if branched.outcome == "open":
            best[0] = torch.where(best[0] > self.tie, best[0], max(branched.bound, float(best.min())))
            return result("open", None, problems=branched.problems)
        if branched.outcome == "proven":
            best[0] = torch.where(best[0] > self.tie, best[0], branched.bound)
        return result(
            branched.outcome, "branch-and-bound", problems=branched.problems, adversarial=branched.adversarial
        )

    def _optimised(self, values: Values, region: Region, functions: Tensor) -> Optimised:
        dtype = self.search.dtype
        return optimise(self.search, values.to(dtype), region.to(dtype), functions.to(dtype), steps=SLOPE_STEPS)

    def bounds(self, values: Values, region: Region, functions: Tensor, *, boxes_only: bool = False) -> Tensor:
        """Lower bounds on functions of the outputs by one backward pass, infinite for functions that are zero, (N, S).

        Args:
            values: Bounds on the values of the graph.
            region: The inputs.
            functions: Their coefficients, (N, S, outputs).
            boxes_only: Whether by intervals alone.
        """
        bounds = lower_bound(self.graph, values, region, self.graph.output, functions, boxes_only=boxes_only).bound
        return torch.where(functions.abs().sum(2) > 0, bounds, torch.inf)
