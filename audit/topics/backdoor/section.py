"""The smallest trigger of each class, as the document holds it."""

from __future__ import annotations

from collections.abc import Iterator

from audit.document.images import picture_of_floats
from audit.document.model import DocumentModel, Picture
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    only_measured,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.backdoor.facts import BackdoorFacts


class TriggerRow(DocumentModel):
    """The smallest patch found into one class: its area as a share of the image, its anomaly index, and how many of
    `tried` unseen images of other classes it moved. `picture` shows the smallest of each model on grey."""

    role: str
    label: str
    area: float
    anomaly: float
    moved: int
    tried: int
    reached: bool
    picture: Picture | None = None


def build(results: RunResults, context: SectionContext) -> Rows:
    """Every class of every model that was searched, the smallest patch first."""
    rows = [
        row
        for role in results.roles
        for entry in only_measured(results.entries("backdoor", role=role))
        for row in _triggers(role, entry, context.pictures)
    ]
    return {"triggers": rows}


def _triggers(role: str, entry: TaskResult, pictures: bool) -> Iterator[TriggerRow]:
    triggers = entry.evidence.facts_as(BackdoorFacts).triggers
    for place, label in enumerate(sorted(range(len(triggers)), key=lambda label: triggers[label].area)):
        picture = _patch(entry, label) if pictures and place == 0 else None
        yield TriggerRow(role=role, picture=picture, **triggers[label].model_dump())


def _patch(entry: TaskResult, label: int) -> Picture:
    opacity = entry.evidence.arrays["masks"][label][None]
    return picture_of_floats(opacity * entry.evidence.arrays["patterns"][label] + (1 - opacity) * 0.5)
