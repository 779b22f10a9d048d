"""How much a share differs between groups of examples, in the words of fairlearn's MetricFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit.core.confidence_sequence import share_sequence
from audit.core.evidence import Array
from audit.core.looks import EARLY_ERROR, LAST_LEVEL, Look, share_at
from audit.core.statistics import LEVEL, Interval, clopper_pearson, newcombe_difference

_METHODS: Mapping[Look, str] = {
    "only": f"simultaneous Clopper-Pearson {LEVEL:.0%}",
    "early": f"simultaneous confidence sequences {LEVEL:.0%}",
    "last": f"simultaneous confidence sequences {LEVEL:.0%}",
}


@dataclass(frozen=True)
class GroupRates:
    """The share of yes by group.

    Attributes:
        overall: Over all examples, with the 95% interval that is valid at the look: Wilson's where there is only one.
        by_group: By name of a group that has examples, its share with such an interval, in the order of the names.
        together: By the same names, intervals that hold for all groups together with 95%.
        group_min: The smallest share.
        group_max: The largest.
        difference: The largest less the smallest, in [0, 1].
        ratio: The smallest over the largest, in [0, 1]; None where both are 0.

    The intervals of the difference and the ratio follow from intervals that hold for all groups together, as the groups
    at both ends were chosen by what was seen: of G groups each has a Clopper-Pearson interval of error 0.05 / G. Of two
    groups there is nothing to choose, and the difference has Newcombe's interval, which is narrower. Where a study
    may stop early, the error is split between early looks and the last as in `audit.core.looks`, and at an early one
    each group has a confidence sequence instead.
    """

    overall: Interval
    by_group: Mapping[str, Interval]
    together: Mapping[str, Interval]
    group_min: float
    group_max: float
    difference: Interval
    ratio: Interval | None


def group_rates(outcomes: Array, groups: Sequence[str] | Array, look: Look = "only") -> GroupRates | None:
    """The share of yes in each group, and how far the groups are apart.

    Args:
        outcomes: Yes-or-no values, (N,).
        groups: The group of each example, texts (N,).
        look: When the examples were looked at.

    Returns:
        The shares; None where there are fewer than two groups.
    """
    yes, of = np.asarray(outcomes).astype(bool), np.asarray(groups).astype(str)
    names = np.unique(of)
    if len(names) < 2:
        return None
    by_group = {str(name): share_at(look, yes[of == name]) for name in names}
    together = {str(name): _of_several(look, yes[of == name], len(names)) for name in names}
    bounds = list(together.values())
    shares = [share.estimate for share in by_group.values()]
    least, most = min(shares), max(shares)
    least_low, least_high = min(b.low for b in bounds), min(b.high for b in bounds)
    most_low, most_high = max(b.low for b in bounds), max(b.high for b in bounds)
    difference = Interval(
        most - least, max(0.0, most_low - least_high), most_high - least_low, len(yes), _METHODS[look]
    )
    if len(names) == 2 and look != "early":
        difference = _of_two(yes, of == names[0], look)
    ratio = None
    if most > 0:
        highest = 1.0 if most_low <= least_high else least_high / most_low
        ratio = Interval(least / most, least_low / most_high, highest, len(yes), _METHODS[look])
    return GroupRates(share_at(look, yes), by_group, together, least, most, difference, ratio)


def _of_several(look: Look, yes: Array, groups: int) -> Interval:
    """One of so many intervals that hold together with 95%."""
    k, n = int(yes.sum()), len(yes)
    if look == "early":
        return share_sequence(k, n, level=1 - EARLY_ERROR / groups)
    return clopper_pearson(k, n, level=1 - (1 - _level(look)) / groups)


def _level(look: Look) -> float:
    return LAST_LEVEL if look == "last" else LEVEL


def _of_two(yes: Array, first: Array, look: Look) -> Interval:
    """How far two groups are apart, whichever is ahead: where the signed difference may be 0, so may this."""
    counts = [(int(yes[group].sum()), int(group.sum())) for group in (first, ~first)]
    signed = newcombe_difference(*counts[0], *counts[1], level=_level(look))
    low, high = max(0.0, signed.low, -signed.high), max(signed.high, -signed.low)
    return Interval(abs(signed.estimate), low, high, len(yes), signed.method)
