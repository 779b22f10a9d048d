"""Two models on the same examples: what newly broke, what was repaired, and whether that is chance."""

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
    """One quantity of two models on the same examples.

    Attributes:
        quantity: "clean", or "robust" with the threat model: "robust linf 8/255".
        before: Share of the first model.
        after: Share of the second model.
        difference: `after` minus `before`, in [-1, 1].
        low: Lower bound of its 95% interval (Agresti and Min 2005).
        high: Upper bound.
        p_value: Exact two-sided p-value of McNemar's test.
        newly_wrong: Examples that only the first model gets right.
        newly_right: Examples that only the second model gets right.
    """

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
    """The first model against the last.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {"comparison": comparison(results)}


def comparison(results: RunResults) -> list[ComparisonRow]:
    """Clean and robust accuracy of the first model against the last; empty for a run of one model.

    Args:
        results: The run.
    """
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
    """One quantity of two models on the examples that both have.

    Args:
        quantity: Its name.
        before: Yes-or-no values of the first model.
        after: Yes-or-no values of the second model.

    Returns:
        The row; None when there are no such examples.
    """
    after = after.at(before.positions)
    before = before.at(after.positions)
    return compare_outcomes(quantity, before.values > 0, after.values > 0) if before.values.size else None


def compare_outcomes(quantity: str, before: Array, after: Array) -> ComparisonRow:
    """Compare yes-or-no outcomes of two models on the same examples: McNemar's test, and Agresti and Min's interval.

    Args:
        quantity: Its name.
        before: Outcomes of the first model, (N,).
        after: Outcomes of the second model, (N,).
    """
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
