"""Threats beside the ball of a norm, each on a line of its own: none of them enters a worst case."""

from __future__ import annotations

import numpy as np

from audit.core.statistics import share_of
from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.other_threats.facts import OtherThreatsFacts, OtherThreatsSettings


class ThreatRow(DocumentModel):
    """How many images withstood one threat beside the norm ball.

    `kind` is spatial, universal, patch or transfer, `threat` its limits in words, and the numbers behind them, None
    where they have no meaning: `rotation` in degrees, `translation` in pixels, `area` a share of the image, `norm` and
    `eps`. `target` is a class, empty for any other; `withstood` the share still right, or not sent to the target;
    `right` and `control` the same share before, and under a blind change of the same size. `made_on` counts images,
    none of which is scored; `made_by` names a surrogate and `agreement` the share of images on which it answers as the
    model does.
    """

    role: str
    kind: str
    threat: str
    target: str
    rotation: float | None
    translation: float | None
    area: float | None
    norm: str
    eps: float | None
    withstood: Proportion
    right: float
    control: float
    made_on: int
    made_by: str
    agreement: float | None
    faults: int
    cost: Cost


def build(results: RunResults, context: SectionContext) -> Rows:
    """Every such threat to every model, in plan order; those that scored no image are left out."""
    entries = (entry for role in results.roles for entry in only_measured(results.entries("other-threats", role=role)))
    facts = ((entry, entry.evidence.facts_as(OtherThreatsFacts)) for entry in entries)
    return {"other_threats": [_row(entry, measured) for entry, measured in facts if measured.scored]}


def _row(entry: TaskResult, facts: OtherThreatsFacts) -> ThreatRow:
    cell, settings = entry.task.cell, OtherThreatsSettings.of(entry.task.cell)
    values = np.asarray(entry.evidence.measurement("withstood").per_example, np.float64)
    withstood = share_of(values[np.isfinite(values)] > 0)
    ball = cell.threat or {}
    return ThreatRow(
        role=entry.task.role,
        kind=cell.method,
        threat=facts.threat,
        target=facts.target,
        rotation=settings.rotation,
        translation=settings.translation,
        area=settings.area,
        norm=str(ball.get("norm", "")),
        eps=ball.get("eps"),
        withstood=proportion(withstood),
        right=facts.right / facts.scored,
        control=facts.control / facts.scored,
        made_on=facts.made_on,
        made_by=facts.made_by,
        agreement=facts.agreement,
        faults=facts.faults,
        cost=cost_of([entry]),
    )
