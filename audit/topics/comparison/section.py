"""Two models on the same examples: what newly broke, what was repaired, and whether that is chance."""

from __future__ import annotations

from audit.core.evidence import Array
from audit.core.looks import Look, balance_test_at, difference_at, share_at
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
from audit.results.stopping import look_at


class ComparisonRow(DocumentModel):
    """One quantity of two models on the same examples.

    Attributes:
        quantity: "clean", or "robust" with the threat model: "robust linf 8/255".
        before: Share of the first model.
        after: Share of the second model.
        difference: `after` minus `before`, in [-1, 1].
        low: Lower bound of its 95% interval (Agresti and Min 2005; a confidence sequence at an early look).
        high: Upper bound.
        p_value: Exact two-sided p-value of McNemar's test; one that holds at any stopping time at an early look.
        newly_wrong: Examples that only the first model gets right.
        newly_right: Examples that only the second model gets right.
        look: Whether the number of examples was set beforehand ("only"), chosen by looking at them ("early"), or
            reached after looks that could have ended it ("last").
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
    look: Look = "only"


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
    look = common_look(*(look_at(results, "robustness", role) for role in (first, last)))
    rows += [
        compare_on_shared(f"robust {format_threat(*at[1:])}", before[at], after[at], look)
        for at in before
        if at in after
    ]
    return [row for row in rows if row is not None]


def common_look(first: Look, second: Look) -> Look:
    """The look at the examples that two measurements share: early where either was.

    Args:
        first: The look of the first.
        second: The look of the second.
    """
    return next((look for look in _EARLIEST_FIRST if look in (first, second)), "only")


_EARLIEST_FIRST: tuple[Look, ...] = ("early", "last", "only")


def compare_on_shared(
    quantity: str, before: PerExample, after: PerExample, look: Look = "only"
) -> ComparisonRow | None:
    """One quantity of two models on the examples that both have.

    Args:
        quantity: Its name.
        before: Yes-or-no values of the first model.
        after: Yes-or-no values of the second model.
        look: When the examples were looked at.

    Returns:
        The row; None when there are no such examples.
    """
    after = after.at(before.positions)
    before = before.at(after.positions)
    return compare_outcomes(quantity, before.values > 0, after.values > 0, look) if before.values.size else None


def compare_outcomes(quantity: str, before: Array, after: Array, look: Look = "only") -> ComparisonRow:
    """Compare yes-or-no outcomes of two models on the same examples: McNemar's test, and Agresti and Min's interval,
    or what holds in their place where the number of examples was not set beforehand.

    Args:
        quantity: Its name.
        before: Outcomes of the first model, (N,), in audit order.
        after: Outcomes of the second model, (N,).
        look: When the examples were looked at.
    """
    test, change = balance_test_at(look, before, after), difference_at(look, before, after)
    return ComparisonRow(
        quantity=quantity,
        before=proportion(share_at(look, before)),
        after=proportion(share_at(look, after)),
        difference=change.estimate,
        low=change.low,
        high=change.high,
        p_value=test.p_value,
        newly_wrong=test.only_first,
        newly_right=test.only_second,
        look=look,
    )


def _robust(results: RunResults, role: str) -> dict[tuple[str, str, float], PerExample]:
    """By battery, norm and eps."""
    entries = results.entries("robustness", role=role)
    return {(at.method, at.norm, at.eps): per_example(group, "robust") for at, group in group_by_condition(entries)}
