"""Accuracy under corruptions: rows of the document."""

from __future__ import annotations

from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults
from audit.results.stopping import share_of_entries


class CorruptionRow(DocumentModel):
    """Accuracy of one model under one corruption at one severity.

    Attributes:
        role: Role of the model.
        name: Name of the corruption.
        severity: 1 to 5.
        accuracy: Share of images classified right.
        cost: What it cost.
    """

    role: str
    name: str
    severity: int
    accuracy: Proportion
    cost: Cost


def build(results: RunResults, context: SectionContext) -> Rows:
    """Accuracy of each model by corruption and severity.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {"corruptions": [row for role in context.roles for row in _corruptions(results, role)]}


def _corruptions(results: RunResults, role: str) -> list[CorruptionRow]:
    """Accuracy by corruption and severity."""
    rows = [
        CorruptionRow(
            role=role,
            name=at.method,
            severity=int(at.setting or 0),
            accuracy=proportion(share_of_entries(results, entries, per_example(entries, "correct").values)),
            cost=cost_of(entries),
        )
        for at, entries in group_by_condition(results.entries("corruption", role=role), "severity")
        if only_measured(entries)
    ]
    return sorted(rows, key=lambda row: (row.name, row.severity))
