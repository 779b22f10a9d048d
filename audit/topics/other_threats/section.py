"""Robustness to threats other than a norm ball: rows of the document. None of them enters a worst case."""

from __future__ import annotations

import numpy as np

from audit.core.statistics import share_of
from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured, with_parts
from audit.results.run_results import RunResults, TaskResult
from audit.topics.other_threats.facts import OtherThreatsFacts, OtherThreatsSettings


class ThreatRow(DocumentModel):
    """How many images withstand one threat other than a norm ball.

    Attributes:
        role: Role of the model.
        kind: "spatial", "universal", "patch" or "transfer".
        threat: Its limits in words.
        target: The class it aims at; empty for any other than the right one.
        rotation: Largest rotation in degrees; None for other kinds.
        translation: Largest translation in pixels; None for other kinds.
        area: The patch as a share of the image; None for other kinds.
        norm: Norm of the ball; empty for other kinds.
        eps: Radius of the ball, in units of the pixel range [0, 1]; None for other kinds.
        withstood: Share of images still classified right or, with a target, not sent to it.
        right: The same share before the change, in [0, 1].
        control: The same share under a blind change of the same size, in [0, 1].
        made_on: Images it was made on, none of which is scored.
        made_by: Architecture of the surrogate; empty without one.
        agreement: Share of images on which surrogate and model predict the same class; None without a surrogate.
        faults: Proposals that left the limits.
        cost: What it cost.
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
    """Every such threat to every model, in plan order; those that scored no image are left out.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    entries = (entry for role in results.roles for entry in only_measured(results.entries("other-threats", role=role)))
    facts = ((entry, entry.evidence.facts_as(OtherThreatsFacts)) for entry in entries)
    return {"other_threats": [_row(results, entry, measured) for entry, measured in facts if measured.scored]}


def _row(results: RunResults, entry: TaskResult, facts: OtherThreatsFacts) -> ThreatRow:
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
        area=settings.area if facts.painted is None else facts.painted,
        norm=str(ball.get("norm", "")),
        eps=ball.get("eps"),
        withstood=proportion(withstood),
        right=facts.right / facts.scored,
        control=facts.control / facts.scored,
        made_on=facts.made_on,
        made_by=facts.made_by,
        agreement=facts.agreement,
        faults=facts.faults,
        cost=cost_of(with_parts(results, [entry])),
    )
