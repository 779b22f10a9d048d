"""Which methods agree with which, as the document holds it."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from audit.document.model import DocumentModel
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    only_measured,
)
from audit.results.run_results import RunResults
from audit.topics.agreement.facts import AgreementFacts


class AgreementPart(DocumentModel):
    """How far every two methods rank the same pixels first: mean Spearman correlations, None where one is constant.

    `matrix` follows the order of `methods`; `left_out` are those without maps.
    """

    role: str
    methods: list[str]
    matrix: list[list[float | None]]
    left_out: list[str] = Field(default_factory=list)
    n: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """Which methods of each model agree with which."""
    rows = [
        AgreementPart(
            role=entry.task.role,
            methods=list(entry.evidence.facts_as(AgreementFacts).methods),
            matrix=[[float(v) if np.isfinite(v) else None for v in row] for row in entry.evidence.arrays["matrix"]],
            left_out=list(entry.evidence.facts_as(AgreementFacts).left_out),
            n=entry.task.examples.stop - entry.task.examples.start,
        )
        for entry in only_measured(results.entries("agreement"))
    ]
    return {"agreements": rows}
