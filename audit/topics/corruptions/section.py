"""Accuracy under corruptions: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator

from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    corruption_correct,
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults
from audit.results.stopping import mean_of_entries, share_of_entries


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


class CorruptedAccuracyRow(DocumentModel):
    """Accuracy of one model under corruption, over all corruptions and severities.

    Attributes:
        role: Role of the model.
        accuracy: Mean over images of the share of corruptions and severities under which each is classified right.
    """

    role: str
    accuracy: Proportion


def build(results: RunResults, context: SectionContext) -> Rows:
    """Accuracy of each model by corruption and severity, and over all of them.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {
        "corruptions": [row for role in context.roles for row in _corruptions(results, role)],
        "corrupted_accuracy": [row for role in context.roles for row in _over_all(results, role)],
    }


def _over_all(results: RunResults, role: str) -> Iterator[CorruptedAccuracyRow]:
    """One row; none where no image was corrupted in every way."""
    corrupted = corruption_correct(results, role)
    if not corrupted.values.size:
        return
    entries = results.entries("corruption", role=role)
    yield CorruptedAccuracyRow(
        role=role,
        accuracy=proportion(mean_of_entries(results, entries, corrupted.values, (0.0, 1.0))),
    )


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
