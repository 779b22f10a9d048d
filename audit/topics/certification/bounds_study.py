"""Proofs by linear bounds over a curve of eps, beside what attacks broke."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.verify import verify
from audit.adversarial.worst_case import radius
from audit.bounds.outcome import RUNGS, Budget, Outcome, Rung
from audit.bounds.prover import Prover
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Evidence, Measurement
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS, no_steps_within
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps
from audit.models.under_test import ModelUnderTest
from audit.topics.certification.facts import BROKEN, OPEN, PROVEN, THE_MODEL, BoundsSettings, CertificationFacts

_STRIDE = 8
"""Images of one step; between steps a stop takes effect."""


def certified_by_bounds(context: Context, cell: Cell) -> Evidence:
    """Whether each image is proven, broken or open at each eps, from the smallest on.

    What attacks broke needs no proof; what is open at one eps is not tried at a larger one. Measurements:
    `certified_radius` (N,), the largest radius proven, and `certified` (N,), 0 or 1 at the eps of the threat model.
    Arrays: `verdicts` int64 (E, N), see `audit.topics.certification.facts`; `proven_by` int64 (E, N), an index into the
    fact `rungs`, -1 for none; `predictions` int64 (N,).

    Args:
        context: Gives the model, the examples and the attacks' evidence.
        cell: The cell.

    Raises:
        NotApplicable: The norm's ball is not convex, and no bound is over it.
    """
    settings = BoundsSettings.of(cell)
    assert cell.threat is not None
    norm, headline = cell.threat["norm"], float(cell.threat["eps"])
    if norm not in CONVEX_NORMS:
        raise NotApplicable(no_steps_within(norm))
    model, batch = context.model(), context.batch()
    threats = [ThreatModel(norm, eps) for eps in sorted({*settings.eps, headline})]
    rungs: tuple[Rung, ...] = tuple(rung for rung in RUNGS if rung in settings.rungs)
    distance = _distances(context, cell, len(batch))
    with model.count() as counter:
        predicted = model.predictions(batch.images)
        goal = batch.target_mask(len(model.classes)).to(predicted.device)
        distance[goal.gather(1, predicted[:, None])[:, 0].cpu()] = 0.0
        prover = Prover(model)
        prover.check_agreement(batch.images)
        starts = range(0, len(batch), _STRIDE)
        steps = ResumableSteps(context, model, len(starts), "proving by linear bounds")
        prove = _Proofs(model, prover, threats, Budget(rungs, settings.problems), context, distance, batch)
        parts = [steps.run(str(start), partial(prove, start)) for start in starts]
    verdicts, proven_by = (torch.cat([part[name] for part in parts], 1).numpy() for name in ("verdicts", "proven_by"))
    radii = np.array([0.0, *map(radius, threats)])
    proven = radii[(verdicts == PROVEN).sum(0)]
    at = [threat.eps for threat in threats].index(headline)
    return measured_evidence(
        cell,
        [
            Measurement("certified_radius", "pixel range", "higher", proven),
            Measurement("certified", "share", "higher", (verdicts[at] == PROVEN).astype(np.float64)),
        ],
        arrays={"predictions": predicted.cpu().numpy(), "verdicts": verdicts, "proven_by": proven_by},
        facts=CertificationFacts(
            norm=norm,
            certifies=THE_MODEL,
            settings=settings.dump(),
            eps=tuple(threat.eps for threat in threats),
            rungs=rungs,
        ),
        passes=counter.passes,
    )


class _Proofs:
    """Proves the images of one step."""

    def __init__(
        self,
        model: ModelUnderTest,
        prover: Prover,
        threats: Sequence[ThreatModel],
        budget: Budget,
        context: Context,
        distance: Tensor,
        batch: Batch,
    ) -> None:
        self.model, self.prover, self.threats, self.budget = model, prover, threats, budget
        self.context, self.distance, self.batch = context, distance, batch

    def __call__(self, start: int) -> dict[str, Tensor]:
        """Verdicts and rungs of the images from `start` on, (E, n) each."""
        index = torch.arange(start, min(start + _STRIDE, len(self.batch)), device=self.batch.labels.device)
        chunk, distance = self.batch.select(index), self.distance[index.cpu()]
        verdicts = torch.full((len(self.threats), len(index)), OPEN)
        proven_by = torch.full_like(verdicts, -1)
        before = self.prover.passes
        alive = torch.ones(len(index), dtype=torch.bool)
        for row, threat in enumerate(self.threats):
            broken = distance <= radius(threat)
            verdicts[row, broken] = BROKEN
            todo = (alive & ~broken).nonzero().flatten()
            alive &= broken  # An image that is not proven here is not tried at a larger eps.
            if len(todo):
                outcomes = self._prove(chunk.select(todo.to(index.device)), threat)
                self._enter(outcomes, todo, row, verdicts, proven_by, alive)
        self.model.charge(self.prover.passes - before)
        return {"verdicts": verdicts, "proven_by": proven_by}

    def _prove(self, batch: Batch, threat: ThreatModel) -> list[Outcome]:
        goal = batch.target_mask(len(self.model.classes)).to(self.model.device)
        predicted = self.model.predictions(batch.images)
        stopping = self.context.stopping
        outcomes = self.prover.prove(
            batch.images, predicted, goal, threat.norm, radius(threat), self.budget, stopping=stopping
        )
        if stopping():
            raise Interrupted("Stopped while proving by linear bounds; the same command resumes.")
        return [self._verified(batch, i, outcome, threat) for i, outcome in enumerate(outcomes)]

    def _verified(self, batch: Batch, number: int, outcome: Outcome, threat: ThreatModel) -> Outcome:
        """A candidate that the verifier does not confirm leaves the image open."""
        if outcome.adversarial is None:
            return outcome
        one = batch.select(torch.tensor([number], device=batch.labels.device))
        broken = bool(verify(self.model, one, outcome.adversarial[None].float(), threat).broken)
        return outcome if broken else Outcome("open", bound=outcome.bound)

    def _enter(
        self,
        outcomes: Sequence[Outcome],
        todo: Tensor,
        row: int,
        verdicts: Tensor,
        proven_by: Tensor,
        alive: Tensor,
    ) -> None:
        for column, outcome in zip(todo.tolist(), outcomes, strict=True):
            if outcome.verdict == "proven" and outcome.rung is not None:
                verdicts[row, column] = PROVEN
                proven_by[row, column] = self.budget.rungs.index(outcome.rung)
                alive[column] = True
            elif outcome.verdict == "broken":
                verdicts[row:, column] = BROKEN


def _distances(context: Context, cell: Cell, count: int) -> Tensor:
    """The distance at which attacks broke each image; infinite where none did or none ran."""
    if "robustness" not in cell.inputs:
        return torch.full((count,), float("inf"), dtype=torch.float64)
    distance = np.asarray(context.evidence("robustness").arrays["minimal_eps"], dtype=np.float64)
    before = BoundsSettings.of(cell).attacked_before
    return torch.from_numpy(distance[before : before + count].copy())
