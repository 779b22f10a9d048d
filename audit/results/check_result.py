"""What a check returns, and how a bound becomes a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.core.evidence import CheckValue, Verdict
from audit.core.statistics import Interval


@dataclass(frozen=True)
class CheckResult:
    """A check's verdict on one model. `values` fill the templates the check was registered with.

    `interval` is the number the verdict rests on, in `unit`; `evidence` the keys of the cells behind it.
    """

    verdict: Verdict
    interval: Interval | None
    evidence: tuple[str, ...]
    values: Mapping[str, CheckValue] = field(default_factory=dict)
    unit: str = "share"


def at_least(interval: Interval, threshold: float) -> Verdict:
    """Pass when even the lower bound reaches `threshold`, fail when not even the upper one does."""
    if interval.low >= threshold:
        return "pass"
    return "fail" if interval.high < threshold else "inconclusive"


def at_most(interval: Interval, threshold: float) -> Verdict:
    """Pass when even the upper bound stays within `threshold`, fail when not even the lower one does."""
    if interval.high <= threshold:
        return "pass"
    return "fail" if interval.low > threshold else "inconclusive"


def template_values(interval: Interval, **others: CheckValue) -> dict[str, CheckValue]:
    """What every template may name: estimate, low, high, n, and `others`."""
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high, "n": interval.n, **others}


MIN_IMAGES = 10
"""Images below which a bootstrap interval is too narrow to be believed."""
ADVICE_MORE_IMAGES = "Explain more images (`explanations.examples`): these do not tell either way."
"""The advice where a method is undecided."""


def cap_at_warning(interval: Interval, verdict: Verdict) -> Verdict:
    """`verdict` on a method's maps: undecided under `MIN_IMAGES` images, and a warning at most.

    A map that cannot be trusted says nothing against the model.
    """
    if interval.n < MIN_IMAGES:
        return "inconclusive"
    return "warn" if verdict == "fail" else verdict


def above_zero(interval: Interval) -> Verdict:
    """Pass when the lower bound is above 0, fail when the upper one is not."""
    if interval.low > 0:
        return "pass"
    return "fail" if interval.high <= 0 else "inconclusive"
