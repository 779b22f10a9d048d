"""Two models on the same examples: what newly broke, what was mended, and whether that is chance."""

from __future__ import annotations

from audit.core.evidence import Array
from audit.core.statistics import mcnemar, paired_difference, share_of
from audit.core.threat_format import format_threat
from audit.document.model import DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    PerExample,
    clean_correct,
    group_by_condition,
    model_roles,
    per_example,
)
from audit.results.run_results import RunResults


class ComparisonRow(DocumentModel):
    """The first model against the second on the same examples (paired): what newly broke and what was mended."""

    quantity: str
    before: Proportion
    after: Proportion
    difference: float
    low: float
    high: float
    p_value: float
    newly_wrong: int
    newly_right: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """The first model against the last."""
    return {"comparison": comparison(results)}


def comparison(results: RunResults) -> list[ComparisonRow]:
    """The first model against the last: clean and robust accuracy. Empty for a run of one model."""
    roles = model_roles(results)
    if len(roles) < 2:
        return []
    first, last = roles[0], roles[-1]
    rows = [compare_on_shared("clean", clean_correct(results, first), clean_correct(results, last))]
    before, after = _robust(results, first), _robust(results, last)
    rows += [
        compare_on_shared(f"robust {format_threat(*at[1:])}", before[at], after[at]) for at in before if at in after
    ]
    return [row for row in rows if row is not None]


def compare_on_shared(quantity: str, before: PerExample, after: PerExample) -> ComparisonRow | None:
    """One quantity of two models on the examples both saw; None when there are none."""
    after = after.at(before.positions)
    before = before.at(after.positions)
    return compare_outcomes(quantity, before.values > 0, after.values > 0) if before.values.size else None


def compare_outcomes(quantity: str, before: Array, after: Array) -> ComparisonRow:
    """Yes-or-no outcomes (N,) of two models on the same examples: McNemar's test, Agresti and Min's interval."""
    test, change = mcnemar(before, after), paired_difference(before, after)
    return ComparisonRow(
        quantity=quantity,
        before=proportion(share_of(before)),
        after=proportion(share_of(after)),
        difference=change.estimate,
        low=change.low,
        high=change.high,
        p_value=test.p_value,
        newly_wrong=test.only_first,
        newly_right=test.only_second,
    )


def _robust(results: RunResults, role: str) -> dict[tuple[str, str, float], PerExample]:
    """By battery, norm and eps."""
    entries = results.entries("robustness", role=role)
    return {(at.method, at.norm, at.eps): per_example(group, "robust") for at, group in group_by_condition(entries)}
