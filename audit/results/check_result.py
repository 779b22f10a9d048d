"""What a check returns, and how the bounds of an interval become a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.core.evidence import CheckValue, Verdict
from audit.core.statistics import Interval


@dataclass(frozen=True)
class CheckResult:
    """A check's verdict on one model.

    Attributes:
        verdict: The verdict.
        interval: The estimate it rests on with its bounds, in `unit`; None where it rests on none.
        evidence: Keys of the cells it rests on.
        values: Values for the templates that the check was registered with.
        unit: Unit of the interval.
    """

    verdict: Verdict
    interval: Interval | None
    evidence: tuple[str, ...]
    values: Mapping[str, CheckValue] = field(default_factory=dict)
    unit: str = "share"


def at_least(interval: Interval, threshold: float) -> Verdict:
    """Pass when the lower bound reaches a threshold, fail when the upper bound does not; otherwise inconclusive.

    Args:
        interval: The interval.
        threshold: The threshold, in the unit of the interval.
    """
    if interval.low >= threshold:
        return "pass"
    return "fail" if interval.high < threshold else "inconclusive"


def at_most(interval: Interval, threshold: float) -> Verdict:
    """Pass when the upper bound is within a threshold, fail when the lower bound is not; otherwise inconclusive.

    Args:
        interval: The interval.
        threshold: The threshold, in the unit of the interval.
    """
    if interval.high <= threshold:
        return "pass"
    return "fail" if interval.low > threshold else "inconclusive"


def template_values(interval: Interval, **others: CheckValue) -> dict[str, CheckValue]:
    """The values that every template may name: `estimate`, `low`, `high` and `n`.

    Args:
        interval: The interval that gives them.
        others: Further values.
    """
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high, "n": interval.n, **others}


MIN_IMAGES = 10
"""Least number of images for a verdict from a bootstrap interval, which is too narrow on fewer."""
ADVICE_MORE_IMAGES = "Explain more images (`explanations.examples`): these do not tell either way."
"""The advice of inconclusive findings about a method."""


def cap_at_warning(interval: Interval, verdict: Verdict) -> Verdict:
    """The verdict on the maps of a method: inconclusive below `MIN_IMAGES` images, and a warning instead of a failure.

    A map that cannot be relied on says nothing against the model.

    Args:
        interval: The interval the verdict rests on.
        verdict: The verdict of the bounds.
    """
    if interval.n < MIN_IMAGES:
        return "inconclusive"
    return "warn" if verdict == "fail" else verdict


def above_zero(interval: Interval) -> Verdict:
    """Pass when the lower bound is above 0, fail when the upper bound is not; otherwise inconclusive.

    Args:
        interval: The interval.
    """
    if interval.low > 0:
        return "pass"
    return "fail" if interval.high <= 0 else "inconclusive"
