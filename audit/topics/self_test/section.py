"""Problems with known answers: rows of the document."""

from __future__ import annotations

from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    only_measured,
)
from audit.results.run_results import RunResults
from audit.topics.self_test.facts import SelfTestFacts


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each problem with a known answer that was solved on this device, by us and by the packages of the field.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    facts = [entry.evidence.facts_as(SelfTestFacts) for entry in only_measured(results.entries("self-test"))]
    return {
        "oracles": [row for fact in facts for row in fact.oracles],
        "packages": [row for fact in facts for row in fact.packages],
    }
