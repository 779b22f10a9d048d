"""Which methods agree with which: rows of the document."""

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
    """How far every two methods rank the same pixels first.

    Attributes:
        role: Role of the model.
        methods: The methods with maps.
        matrix: Mean Spearman correlations in [-1, 1], in the order of `methods`; None where one map is constant on all
            images.
        left_out: The methods without maps.
        n: Number of images.
    """

    role: str
    methods: list[str]
    matrix: list[list[float | None]]
    left_out: list[str] = Field(default_factory=list)
    n: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """Which methods of each model agree with which.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
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
