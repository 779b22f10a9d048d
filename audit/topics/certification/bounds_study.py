"""Proofs by linear bounds over a curve of eps, beside what attacks broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.verify import verify
from audit.adversarial.worst_case import radius
from audit.bounds.outcome import RUNGS, Budget, Outcome
from audit.bounds.prover import Prover
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS, no_steps_within
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps
from audit.topics.certification.facts import (
    BEFORE,
    BROKEN,
    OPEN,
    PROVEN,
    THE_MODEL,
    BoundsSettings,
    CertificationFacts,
)

_STRIDE = 8
"""Images of one step, where none is asked further; between steps a stop takes effect."""


def certified_by_bounds(context: Context, cell: Cell) -> Evidence:
    """Whether each image is proven, broken or open at each eps, from the smallest on.

    What attacks broke needs no proof; what is open at one eps is not tried at a larger one. A cell that goes on from
    another asks only what that left open, one image a step. Measurements: `certified_radius` (N,), the largest radius
    proven, and `certified` (N,), 0 or 1 at the eps of the threat model. Arrays: `verdicts` int64 (E, N), see
    `audit.topics.certification.facts`; `proven_by` int64 (E, N), an index into the fact `rungs`, -1 for none;
    `predictions` int64 (N,).

    Args:
        context: Gives the model, the examples, and the evidence of the attacks or of the cell before.
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
    budget = Budget(tuple(rung for rung in RUNGS if rung in settings.rungs), settings.problems)
    with model.count() as counter:
        further = BEFORE in cell.inputs
        known = _known_before(context, budget) if further else _known(context, cell, threats, budget, batch)
        index = known.open.nonzero().flatten() if further else torch.arange(len(batch))
        portions = [part for part in torch.split(index, 1 if further else _STRIDE) if len(part)]
        steps = ResumableSteps(context, model, len(portions), "proving by linear bounds")
        if portions:
            prover = Prover(model)
            prover.check_agreement(batch.images[index.to(batch.images.device)])
            prove = _Proofs(context, prover, batch, threats, budget, known)
            for portion in portions:
                known.enter(portion, steps.run(str(int(portion[0])), partial(prove, portion)))
    radii = np.array([0.0, *map(radius, threats)])
    verdicts = known.verdicts.numpy()
    at = [threat.eps for threat in threats].index(headline)
    return measured_evidence(
        cell,
        [
            Measurement("certified_radius", "pixel range", "higher", radii[(verdicts == PROVEN).sum(0)]),
            Measurement("certified", "share", "higher", (verdicts[at] == PROVEN).astype(np.float64)),
        ],
        arrays={"predictions": known.predictions, "verdicts": verdicts, "proven_by": known.proven_by.numpy()},
        facts=CertificationFacts(
            norm=norm,
            certifies=THE_MODEL,
            settings=settings.dump(),
            eps=tuple(threat.eps for threat in threats),
            rungs=known.rungs,
        ),
        passes=counter.passes,
    )


@dataclass
class _Known:
    """What is known of each image at each eps.

    Attributes:
        verdicts: int64 (E, N).
        proven_by: Indices into `rungs`, -1 for none, int64 (E, N).
        rungs: The bounds, from the cheapest on.
        predictions: int64 (N,).
    """

    verdicts: Tensor
    proven_by: Tensor
    rungs: tuple[str, ...]
    predictions: Array

    @property
    def open(self) -> Tensor:
        """Which images are open at some eps, bool (N,)."""
        return (self.verdicts == OPEN).any(0)

    def enter(self, columns: Tensor, step: Mapping[str, Tensor]) -> None:
        """Write what a step gave.

        Args:
            columns: The images of the step, int64 (n,).
            step: `verdicts` and `proven_by`, (E, n).
        """
        self.verdicts[:, columns], self.proven_by[:, columns] = step["verdicts"], step["proven_by"]


def _known(context: Context, cell: Cell, threats: Sequence[ThreatModel], budget: Budget, batch: Batch) -> _Known:
    """What predictions and attacks say: images that are wrong, or were broken within an eps."""
    model = context.model()
    predicted = model.predictions(batch.images)
    distance = _distances(context, cell, len(batch))
    goal = batch.target_mask(len(model.classes)).to(predicted.device)
    distance[goal.gather(1, predicted[:, None])[:, 0].cpu()] = 0.0
    verdicts = torch.stack([torch.where(distance <= radius(threat), BROKEN, OPEN) for threat in threats])
    return _Known(verdicts, torch.full_like(verdicts, -1), tuple(budget.rungs), predicted.cpu().numpy())


def _known_before(context: Context, budget: Budget) -> _Known:
    """What the cell before came to, with its bounds among those of both."""
    evidence = context.evidence(BEFORE)
    before = evidence.facts_as(CertificationFacts).rungs
    rungs = tuple(rung for rung in RUNGS if rung in (*before, *budget.rungs))
    verdicts, proven_by, predictions = (
        np.asarray(evidence.arrays[name]) for name in ("verdicts", "proven_by", "predictions")
    )
    places = np.array([*(rungs.index(rung) for rung in before), -1])  # the last is that of -1
    return _Known(torch.from_numpy(verdicts.copy()), torch.from_numpy(places[proven_by]), rungs, predictions)


class _Proofs:
    """Proves the images of one step."""

    def __init__(
        self,
        context: Context,
        prover: Prover,
        batch: Batch,
        threats: Sequence[ThreatModel],
        budget: Budget,
        known: _Known,
    ) -> None:
        self.context, self.prover, self.batch, self.threats = context, prover, batch, threats
        self.budget, self.known, self.model = budget, known, context.model()

    def __call__(self, columns: Tensor) -> dict[str, Tensor]:
        """Verdicts and rungs of some images, (E, n) each."""
        verdicts, proven_by = self.known.verdicts[:, columns], self.known.proven_by[:, columns]
        chunk, before = self.batch.select(columns.to(self.batch.labels.device)), self.prover.passes
        alive = torch.ones(len(columns), dtype=torch.bool)
        for row, threat in enumerate(self.threats):
            todo = (alive & (verdicts[row] == OPEN)).nonzero().flatten()
            if len(todo):
                outcomes = self._prove(chunk.select(todo.to(chunk.labels.device)), threat)
                self._enter(outcomes, todo, row, verdicts, proven_by)
            alive &= verdicts[row] != OPEN  # An image that is not proven here is not tried at a larger eps.
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

    def _enter(self, outcomes: Sequence[Outcome], todo: Tensor, row: int, verdicts: Tensor, proven_by: Tensor) -> None:
        for column, outcome in zip(todo.tolist(), outcomes, strict=True):
            if outcome.verdict == "proven" and outcome.rung is not None:
                verdicts[row, column] = PROVEN
                proven_by[row, column] = self.known.rungs.index(outcome.rung)
            elif outcome.verdict == "broken":
                verdicts[row:, column] = BROKEN


def _distances(context: Context, cell: Cell, count: int) -> Tensor:
    """The distance at which attacks broke each image; infinite where none did or none ran."""
    if "robustness" not in cell.inputs:
        return torch.full((count,), float("inf"), dtype=torch.float64)
    distance = np.asarray(context.evidence("robustness").arrays["minimal_eps"], dtype=np.float64)
    before = BoundsSettings.of(cell).attacked_before
    return torch.from_numpy(distance[before : before + count].copy())
