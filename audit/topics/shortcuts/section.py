"""Regions that decide a class: rows of the document."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from audit.document.model import DocumentModel
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    only_measured,
)
from audit.results.run_results import RunResults
from audit.topics.shortcuts.facts import ShortcutsFacts


class ShortcutRow(DocumentModel):
    """A region that decides a class.

    Attributes:
        role: Role of the model.
        method: The attribution method of the search.
        label: Name of the class.
        share: Share of the positive attribution of its images that lies in the region, in [0, 1].
        removed: Share of its images that leave the class when the region is exchanged.
        left_anyway: The same when the donors are of the same class; None in documents of earlier versions.
        transplanted: Share of other images that join the class when the region is put into them.
        joined_anyway: The same when the donors are of other classes.
        images: Images of the class.
        box: Top, left, bottom and right of the region, in pixels.
    """

    role: str
    method: str
    label: str
    share: float
    removed: float
    left_anyway: float | None = None
    transplanted: float
    joined_anyway: float = Field(validation_alias=AliasChoices("joined_anyway", "control"))
    images: int
    box: list[int]


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each region that was confirmed to decide a class on its own.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    rows = [
        ShortcutRow(role=entry.task.role, method=entry.task.cell.method, **shortcut.model_dump())
        for entry in only_measured(results.entries("shortcuts"))
        for shortcut in entry.evidence.facts_as(ShortcutsFacts).shortcuts
    ]
    return {"shortcuts": rows}
