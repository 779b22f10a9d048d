"""Intervals and tests at a look: of data that was taken whole, that was stopped early, or that was looked at before.

A study that may stop early splits its error: `EARLY_ERROR` goes to a confidence sequence, which is valid at every look
before the last, and the rest to one interval of fixed n at the last look, whose number of examples was set beforehand.
The probability that any interval that is ever shown misses is at most the sum (the union bound), and the interval of
the last look is hardly wider than that of a study that never looked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from audit.core.confidence_sequence import SEQUENCE, balance_p_value, mean_sequence, share_sequence
from audit.core.statistics import (
    LEVEL,
    Interval,
    PairedTest,
    bootstrap_mean,
    clopper_pearson,
    mcnemar,
    paired_difference,
    share_of,
)

Look = Literal["only", "early", "last"]
"""When the data was looked at: once, when all of it was there ("only"); before that ("early"); or then, after looks
that could have ended it ("last")."""
EARLY_ERROR = 0.01
"""The probability that any of the early looks misses."""
LAST_LEVEL = LEVEL + EARLY_ERROR
"""The confidence level of the interval of the last look."""
_NAME = f"{SEQUENCE} {LEVEL:.0%}"


def share_at(look: Look, outcomes: ArrayLike) -> Interval:
    """The share of true values with the 95% interval that is valid at a look: Wilson's where there is only one.

    Args:
        look: When the values were looked at.
        outcomes: Yes-or-no values, bool or numbers (N,).

    Raises:
        UsageError: When there is no value.
    """
    values = np.asarray(outcomes)
    if look == "only":
        return share_of(values)
    k, n = int(np.count_nonzero(values)), values.size
    if look == "early":
        return replace(share_sequence(k, n, level=1 - EARLY_ERROR), method=_NAME)
    return replace(clopper_pearson(k, n, level=LAST_LEVEL), method=_NAME)


def mean_at(look: Look, values: ArrayLike, bounds: tuple[float, float]) -> Interval:
    """The mean with the 95% interval that is valid at a look: the bootstrap's where there is only one.

    Args:
        look: When the values were looked at.
        values: Finite numbers (N,), in the order in which they came.
        bounds: The least and the largest value there can be.

    Raises:
        UsageError: When there is no value, or one is not finite or not within the bounds.
    """
    if look == "only":
        return bootstrap_mean(values)
    if look == "early":
        return replace(mean_sequence(values, bounds=bounds, level=1 - EARLY_ERROR), method=_NAME)
    return replace(bootstrap_mean(values, level=LAST_LEVEL), method=_NAME)


def difference_at(look: Look, first: ArrayLike, second: ArrayLike) -> Interval:
    """The change of a share between two yes-or-no outcomes on the same examples, valid at a look.

    Args:
        look: When the pairs were looked at.
        first: Yes-or-no values before, (N,).
        second: Yes-or-no values after, of the same examples, (N,).

    Returns:
        The share of `second` minus that of `first`, in [-1, 1], with its 95% interval.

    Raises:
        UsageError: When the lengths differ or are 0.
    """
    if look == "only":
        return paired_difference(first, second)
    if look == "last":
        return replace(paired_difference(first, second, level=LAST_LEVEL), method=_NAME)
    mcnemar(first, second)  # refuses lengths that differ
    change = np.asarray(second).astype(bool).astype(float) - np.asarray(first).astype(bool)
    return mean_at(look, change, (-1.0, 1.0))


def balance_test_at(look: Look, first: ArrayLike, second: ArrayLike) -> PairedTest:
    """The test that two outcomes on the same examples are equally frequent, valid at a look.

    McNemar's exact test where there is only one look. At an early look the p-value is one over an e-process, and holds
    at any stopping time; at the last look it is the smaller of both, weighted as the error is split.

    Args:
        look: When the pairs were looked at.
        first: Yes-or-no values (N,).
        second: Yes-or-no values of the same examples, (N,).

    Raises:
        UsageError: When the lengths differ or are 0.
    """
    test = mcnemar(first, second)
    if look == "only":
        return test
    early = balance_p_value(test.only_first, test.only_second)
    if look == "early":
        return replace(test, p_value=early)
    share = EARLY_ERROR / (1 - LEVEL)
    return replace(test, p_value=min(1.0, early / share, test.p_value / (1 - share)))
