"""Problems with known answers, as the document holds them."""

from __future__ import annotations

from audit.document.model import DocumentModel
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    only_measured,
)
from audit.results.run_results import RunResults


class OracleRow(DocumentModel):
    """One problem with a known answer: how far the tool was from it, and how far it may be."""

    problem: str
    method: str
    error: float
    bound: float
    holds: bool


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each problem with a known answer that the tool solved on this device."""
    rows = (row for e in only_measured(results.entries("self-test")) for row in e.evidence.facts["oracles"])
    return {"oracles": [OracleRow.model_validate(row) for row in rows]}
