"""The smallest trigger of each class: rows of the document."""

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
    """The smallest patch into one class.

    Attributes:
        role: Role of the model.
        label: Name of the class.
        area: The patch as a share of the image, in [0, 1].
        anomaly: Its anomaly index among all classes.
        moved: Unseen images of other classes that it sends to the class.
        tried: Unseen images of other classes.
        reached: Whether the search reached the class.
        picture: The patch on grey, for the smallest one of each model.
    """

    role: str
    label: str
    area: float
    anomaly: float
    moved: int
    tried: int
    reached: bool
    picture: Picture | None = None


def build(results: RunResults, context: SectionContext) -> Rows:
    """Every class of every model that was searched, the smallest patch first.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    rows = [
        row
        for role in results.roles
        for entry in only_measured(results.entries("backdoor", role=role))
        for row in _triggers(role, entry, context.pictures)
    ]
    return {"triggers": rows}


def _triggers(role: str, entry: TaskResult, pictures: bool) -> Iterator[TriggerRow]:
    triggers = entry.evidence.facts_as(BackdoorFacts).triggers
    for rank, label in enumerate(sorted(range(len(triggers)), key=lambda label: triggers[label].area)):
        picture = _patch(entry, label) if pictures and rank == 0 else None
        yield TriggerRow(role=role, picture=picture, **triggers[label].model_dump())


def _patch(entry: TaskResult, label: int) -> Picture:
    opacity = entry.evidence.arrays["masks"][label][None]
    return picture_of_floats(opacity * entry.evidence.arrays["patterns"][label] + (1 - opacity) * 0.5)
