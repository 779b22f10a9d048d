"""Places that decide a class, as the document holds them."""

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
    """A place that decides a class: its share of the attribution, and how many predictions turn with it.

    `removed` and `transplanted` are shares of images, `left_anyway` and `joined_anyway` those under the control, an
    exchange with donors of the other kind; `box` is top, left, bottom, right in pixels.
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
    """Each place found to decide a class on its own."""
    rows = [
        ShortcutRow(role=entry.task.role, method=entry.task.cell.method, **place.model_dump())
        for entry in only_measured(results.entries("shortcuts"))
        for place in entry.evidence.facts_as(ShortcutsFacts).shortcuts
    ]
    return {"shortcuts": rows}
