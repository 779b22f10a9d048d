"""Confidence sequences: intervals that stay valid however often one looks at growing data, and whenever one stops."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from audit.core.errors import UsageError
from audit.core.statistics import LEVEL, Interval

Floats = NDArray[np.float64]
SEQUENCE = "confidence sequence"
CONCENTRATION = 16.0
"""The pseudo-observations of the mixing prior. With 16 the bounds at 1% error are 3.5 to 3.9 standard errors away from
32 to 4,000 images, for shares of .3 to .7; other values trade one end for the other."""
_HALVINGS = 50
_TRUNCATION = 0.5
"""The share of the capital that one image may cost a bettor: `c` of Waudby-Smith and Ramdas."""


def log_mixture(k: ArrayLike, n: ArrayLike, p: ArrayLike) -> Floats:
    """The logarithm of the beta-binomial mixture martingale for the hypothesis that a share is `p`.

    It is the likelihood of the data averaged over shares drawn from Beta(p c, (1 - p) c), c = `CONCENTRATION`, over
    their likelihood at `p`: a martingale that begins at 1 where `p` is true, so that the probability that it ever
    reaches 1/a is at most a (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Howard
    et al. 2021, arXiv:1810.08240, proposition 7). In an order balanced over classes of unequal shares it is a
    supermartingale at the end of each round of classes, since every factor is 1 + b (x - p) and the product of such
    factors is at most the power of their mean.

    Args:
        k: Successes, 0 to n, of any shape.
        n: Examples, broadcast with `k`.
        p: Shares within (0, 1), broadcast with both.

    Returns:
        The logarithm, of the broadcast shape.
    """
    successes, examples, share = (np.asarray(value, dtype=np.float64) for value in (k, n, p))
    a, b = CONCENTRATION * share, CONCENTRATION * (1 - share)
    failures = examples - successes
    likelihood = successes * np.log(share) + failures * np.log1p(-share)
    return np.asarray(betaln(a + successes, b + failures) - betaln(a, b) - likelihood, dtype=np.float64)


def share_bounds(k: ArrayLike, n: ArrayLike, error: float) -> tuple[Floats, Floats]:
    """The shares whose mixture martingale has not reached 1 / error, from the lowest to the highest.

    Args:
        k: Successes, 0 to n, of any shape.
        n: Examples, at least 1, broadcast with `k`.
        error: The probability of ever leaving the true share out, in (0, 1).

    Returns:
        The lower and the upper bounds, of the broadcast shape.
    """
    successes, examples = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    estimate = np.asarray(np.clip(successes / examples, 1e-12, 1 - 1e-12), np.float64)

    def bound(end: float) -> Floats:
        outside, inside = np.full(estimate.shape, end), estimate.copy()
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            kept = log_mixture(successes, examples, middle) < math.log(1 / error)
            inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
        return np.atleast_1d(inside)

    low, high = bound(1e-12), bound(1 - 1e-12)
    low[low < 1e-9], high[high > 1 - 1e-9] = 0.0, 1.0
    return low, high


def share_sequence(k: int, n: int, *, level: float = LEVEL) -> Interval:
    """The confidence sequence of a share after `n` examples, by the beta-binomial mixture.

    Args:
        k: Number of successes, 0 to n.
        n: Number of examples, at least 1.
        level: The probability that the true share is within the intervals of all n at once, in (0, 1).

    Raises:
        UsageError: When n is 0 or k is not within 0 and n.
    """
    if not (n > 0 and 0 <= k <= n):
        raise UsageError(f"A share of {k} in {n} has no interval: give 0 <= k <= n and at least one example.")
    (low,), (high,) = share_bounds([k], [n], 1 - level)
    return Interval(k / n, min(k / n, float(low)), max(k / n, float(high)), n, f"{SEQUENCE} {level:.0%}")


def balance_p_value(first: int, second: int) -> float:
    """A p-value, valid at any stopping time, that discordant pairs fall either way with probability 1/2.

    It is one over the mixture martingale at 1/2, which is an e-process (Ville's inequality).

    Args:
        first: Pairs that fell one way.
        second: Pairs that fell the other way.

    Returns:
        At most 1.
    """
    return min(1.0, math.exp(-float(log_mixture(first, first + second, 0.5))))


def mean_sequence(values: ArrayLike, *, bounds: tuple[float, float] = (0.0, 1.0), level: float = LEVEL) -> Interval:
    """The confidence sequence of the mean of bounded values, by betting.

    Hedged capital with the predictable plug-in bets of Waudby-Smith and Ramdas 2023, "Estimating means of bounded
    random variables by betting" (arXiv:2010.09686, equations 23 to 26): one bettor stakes on a mean above `m`, one on
    a mean below, half of the capital each, and `m` is left out where the capital of either reaches 1 / error.

    Args:
        values: Finite numbers within `bounds` (N,), in the order in which they came.
        bounds: The least and the largest value there can be.
        level: The probability that the true mean is within the intervals of all N at once, in (0, 1).

    Raises:
        UsageError: When there is no value, or one is not finite or not within the bounds.
    """
    sample, (least, most) = np.asarray(values, dtype=np.float64).ravel(), bounds
    if not sample.size or not np.isfinite(sample).all() or sample.min() < least or sample.max() > most:
        raise UsageError(f"A bounded mean needs finite values from {least:g} to {most:g}, and at least one.")
    scaled = (sample - least) / (most - least)
    bets = _bets(scaled, 1 - level)
    low = _least_mean(scaled, bets, 1 - level)
    high = 1 - _least_mean(1 - scaled, bets, 1 - level)
    mean = float(scaled.mean())
    low, high = min(mean, low), max(mean, high)

    def unscaled(value: float) -> float:
        return least + value * (most - least)

    return Interval(float(sample.mean()), unscaled(low), unscaled(high), sample.size, f"{SEQUENCE} {level:.0%}")


def _bets(scaled: Floats, error: float) -> Floats:
    """Each bet from the values before it: equations 23 and 24, whose mean and variance begin at 1/2 and 1/4."""
    t = np.arange(1, scaled.size + 1)
    means = (0.5 + np.cumsum(scaled)) / (t + 1)
    variances = (0.25 + np.cumsum((scaled - means) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / error) / (before * t * np.log(t + 1))), dtype=np.float64)


def _least_mean(scaled: Floats, bets: Floats, error: float) -> float:
    """The lowest mean that the bettor on a higher one has not ruled out; its capital falls as the mean rises."""

    def ruled_out(mean: float) -> bool:
        stakes = np.minimum(bets, _TRUNCATION / mean)
        return bool(np.log1p(stakes * (scaled - mean)).sum() >= math.log(2 / error))

    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if ruled_out(middle) else (low, middle)
    return low
