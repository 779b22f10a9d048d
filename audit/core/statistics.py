"""Confidence intervals and paired tests over per-example values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, ndtr, ndtri

from audit.core.errors import UsageError

LEVEL = 0.95
RESAMPLES = 2000
_LARGEST_DRAW = 4_000_000
"""Values that are resampled at once."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The estimate.
        low: Lower bound.
        high: Upper bound.
        n: Number of examples.
        method: Name of the method with its confidence level, such as "Wilson 95%".
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class PairedTest:
    """The outcome of a test of two yes-or-no outcomes on the same examples.

    Attributes:
        only_first: Examples on which only the first outcome is yes.
        only_second: Examples on which only the second outcome is yes.
        p_value: Two-sided p-value that both are equally frequent, in [0, 1].
    """

    only_first: int
    only_second: int
    p_value: float


def wilson(k: int, n: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a binomial share.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": the shares p for which the
    observed one is within z standard errors sqrt(p (1 - p) / n) of p.

    Args:
        k: Number of successes, 0 to n.
        n: Number of examples, at least 1.
        level: Confidence level, in (0, 1).

    Raises:
        UsageError: When n is 0 or k is not within 0 and n.
    """
    _check_counts(k, n)
    share, z = k / n, float(ndtri((1 + level) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = 0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half
    return Interval(share, low, high, n, f"Wilson {level:.0%}")


def clopper_pearson(k: int, n: int, *, level: float = LEVEL) -> Interval:
    """The exact interval of a binomial share (Clopper and Pearson 1934).

    Its coverage is never below `level`, which certificates need. The tail of a binomial distribution is an incomplete
    beta function, so the bounds are quantiles of beta distributions (Brown, Cai and DasGupta 2001, section 4.2.1).

    Args:
        k: Number of successes, 0 to n.
        n: Number of examples, at least 1.
        level: Confidence level, in (0, 1).

    Raises:
        UsageError: When n is 0 or k is not within 0 and n.
    """
    _check_counts(k, n)
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(k / n, low, high, n, f"Clopper-Pearson {level:.0%}")


def share_of(outcomes: ArrayLike) -> Interval:
    """Wilson's interval for the share of true values.

    Args:
        outcomes: Yes-or-no values, bool or numbers (N,).

    Raises:
        UsageError: When there is no value.
    """
    values = np.asarray(outcomes)
    return wilson(int(np.count_nonzero(values)), values.size)


def bootstrap_mean(values: ArrayLike, seed: int = 0, *, level: float = LEVEL, resamples: int = RESAMPLES) -> Interval:
    """The mean with its bias-corrected and accelerated bootstrap interval (BCa, Efron 1987).

    Args:
        values: Finite numbers (N,).
        seed: The seed of the resampling.
        level: Confidence level, in (0, 1).
        resamples: Number of bootstrap resamples.

    Returns:
        The interval; its bounds are the mean where all values are equal or there is only one.

    Raises:
        UsageError: When there is no value, or one is not finite.
    """
    sample = _finite(values)
    mean = float(sample.mean())
    name = f"bootstrap {level:.0%}"
    if sample.size == 1 or np.ptp(sample) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, sample.size, name)
    low, high = _bca(sample, mean, _resampled_means(sample, resamples, seed), (1 - level) / 2)
    return Interval(mean, low, high, sample.size, name)


def _resampled_means(sample: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    draw, at_once = np.random.default_rng(seed), max(1, _LARGEST_DRAW // sample.size)
    sizes = [min(at_once, resamples - done) for done in range(0, resamples, at_once)]
    drawn = (draw.integers(0, sample.size, (size, sample.size)) for size in sizes)
    return np.concatenate([sample[indices].mean(axis=1) for indices in drawn])


def _bca(sample: NDArray[np.float64], mean: float, means: NDArray[np.float64], tail: float) -> tuple[float, float]:
    """The percentiles of the resampled means, moved for their bias and for the skewness of the sample.

    Efron and Tibshirani 1993, "An introduction to the bootstrap", equations 14.10, 14.14 and 14.15; the jackknife of a
    mean has the deviations of the sample itself.
    """
    with np.errstate(all="ignore"):
        below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * len(means))
        bias, deviations = ndtri(below), sample - mean
        acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
        moved = bias + np.array([ndtri(tail), -ndtri(tail)])
        levels = ndtr(bias + moved / (1 - acceleration * moved))
    if not np.isfinite(levels).all():  # every resampled mean is on one side
        return math.nan, math.nan
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def mcnemar(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """The exact two-sided test that two outcomes on the same examples are equally frequent (McNemar 1947).

    It is the binomial test that discordant pairs fall either way with probability 1/2.

    Args:
        first: Yes-or-no values (N,).
        second: Yes-or-no values of the same examples, (N,).

    Raises:
        UsageError: When the lengths differ or are 0.
    """
    in_first, in_second = _paired(first, second)
    only_first = int(np.count_nonzero(in_first & ~in_second))
    only_second = int(np.count_nonzero(in_second & ~in_first))
    differing = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), differing, 0.5))) if differing else 1.0
    return PairedTest(only_first, only_second, p_value)


def paired_difference(first: ArrayLike, second: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The change of a share between two yes-or-no outcomes on the same examples.

    The bounds are those of Agresti and Min 2005, "Simple improved confidence intervals for comparing matched
    proportions": Wald's interval after half an observation is added to each of the four cells. The estimate is that of
    the data as they are.

    Args:
        first: Yes-or-no values before, (N,).
        second: Yes-or-no values after, of the same examples, (N,).
        level: Confidence level, in (0, 1).

    Returns:
        The share of `second` minus that of `first`, in [-1, 1].

    Raises:
        UsageError: When the lengths differ or are 0.
    """
    before, after = _paired(first, second)
    n = before.size
    gained, lost = int(np.count_nonzero(after & ~before)), int(np.count_nonzero(before & ~after))
    b, c, m = gained + 0.5, lost + 0.5, n + 2
    middle = (b - c) / m
    half = float(ndtri((1 + level) / 2)) * math.sqrt((b + c) - (b - c) ** 2 / m) / m
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Interval((gained - lost) / n, low, high, n, f"Agresti-Min paired {level:.0%}")


def newcombe_difference(k: int, n: int, other_k: int, other_n: int, *, level: float = LEVEL) -> Interval:
    """The difference of two shares of different examples, by Newcombe's hybrid score interval.

    Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10: the bounds of
    the two Wilson intervals, combined by the root of their squared distances.

    Args:
        k: Number of successes among the first, 0 to n.
        n: Number of the first, at least 1.
        other_k: Number of successes among the others, 0 to other_n.
        other_n: Number of the others, at least 1.
        level: Confidence level, in (0, 1).

    Returns:
        The share of the first minus that of the others, in [-1, 1]; its n is that of both.

    Raises:
        UsageError: When a number of examples is 0 or a count is not within 0 and it.
    """
    first, second = wilson(k, n, level=level), wilson(other_k, other_n, level=level)
    difference = first.estimate - second.estimate
    below = math.hypot(first.estimate - first.low, second.high - second.estimate)
    above = math.hypot(first.high - first.estimate, second.estimate - second.low)
    low, high = max(-1.0, difference - below), min(1.0, difference + above)
    return Interval(difference, low, high, n + other_n, f"Newcombe {level:.0%}")


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing the mean of theirs.

    Args:
        values: Numbers (N,).
    """
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    return ranks


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for their number, so that one below a level is a false one with at most that probability.

    Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: Numbers in [0, 1], (M,).

    Returns:
        The corrected p-values, in [0, 1], in the order of `p_values`.
    """
    values = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    factors = np.arange(values.size, 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors)) if values.size else values
    return corrected


def _check_counts(k: int, n: int) -> None:
    if not (n > 0 and 0 <= k <= n):
        raise UsageError(f"A share of {k} in {n} has no interval: give 0 <= k <= n and at least one example.")


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64).ravel()
    if not sample.size or not np.isfinite(sample).all():
        raise UsageError(f"An interval needs finite values and at least one; {sample.size} were given.")
    return sample


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first_values, second_values = np.asarray(first).astype(bool).ravel(), np.asarray(second).astype(bool).ravel()
    if first_values.size != second_values.size or not first_values.size:
        raise UsageError(
            f"A paired test needs the same examples twice; {first_values.size} and {second_values.size} were given."
        )
    return first_values, second_values
