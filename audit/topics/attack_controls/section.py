"""The sanity checks of a battery: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.document.model import DocumentModel
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.model_sanity.pooled_flags import pooled_flags


class ControlRow(DocumentModel):
    """One sanity check of a battery.

    Attributes:
        role: Role of the model.
        battery: Name of the battery.
        name: Name of the check.
        count: Images that violate it.
        n: Number of images.
        doubted: Whether that is more than it allows.
    """

    role: str
    battery: str
    name: str
    count: int
    n: int
    doubted: bool


def build(results: RunResults, context: SectionContext) -> Rows:
    """Every sanity check of every battery, by model.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    rows = [
        row
        for role in results.roles
        for at, entries in group_by_condition(only_measured(results.entries("attack-controls", role=role)))
        for row in _controls(role, at.method, entries)
    ]
    return {"attack_controls": rows}


def _controls(role: str, battery: str, entries: Sequence[TaskResult]) -> Iterator[ControlRow]:
    flagged = {flag.name for flag in pooled_flags(entries)}
    for measurement in entries[0].evidence.measurements:
        values = per_example(entries, measurement.name).values
        yield ControlRow(
            role=role,
            battery=battery,
            name=measurement.name,
            count=int((values > 0).sum()),
            n=values.size,
            doubted=measurement.name in flagged,
        )
