"""Intervals that may be looked at after every image: against brute force, closed forms and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats

from audit.core.confidence_sequence import (
    CONCENTRATION,
    balance_p_value,
    log_mixture,
    mean_sequence,
    share_bounds,
    share_sequence,
)
from audit.core.errors import UsageError
from audit.core.looks import EARLY_ERROR, LAST_LEVEL, balance_test_at, difference_at, mean_at, share_at
from audit.core.statistics import mcnemar, share_of, wilson

AUDITS, IMAGES = 2000, 500
SHARES = (0.05, 0.2, 0.5, 0.7, 0.95)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.3), (3, 9, 0.4), (60, 64, 0.5)])
def test_the_mixture_is_the_integral_of_likelihood_ratios_over_the_prior(k: int, n: int, p: float) -> None:
    prior = stats.beta(CONCENTRATION * p, CONCENTRATION * (1 - p))

    def ratio(q: float) -> float:
        return float((q / p) ** k * ((1 - q) / (1 - p)) ** (n - k) * prior.pdf(q))

    assert math.exp(log_mixture(k, n, p)) == pytest.approx(integrate.quad(ratio, 0, 1)[0], rel=1e-6)


def test_the_mixture_is_a_martingale_exactly() -> None:
    """From every count, the mean over the next image is the value before it."""
    p, n = 0.3, np.arange(40)[:, None]
    k = np.minimum(np.arange(40)[None, :], n)
    after = p * np.exp(log_mixture(k + 1, n + 1, p)) + (1 - p) * np.exp(log_mixture(k, n + 1, p))
    np.testing.assert_allclose(after, np.exp(log_mixture(k, n, p)), rtol=1e-10)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 64), (1, 64), (7, 32), (250, 500), (500, 500)])
def test_the_bounds_are_those_of_a_grid(k: int, n: int) -> None:
    grid = np.linspace(1e-4, 1 - 1e-4, 9999)
    inside = grid[log_mixture(k, n, grid) < math.log(1 / 0.05)]
    interval = share_sequence(k, n, level=0.95)
    assert interval.low == pytest.approx(min(inside.min(), k / n), abs=2e-4)
    assert interval.high == pytest.approx(max(inside.max(), k / n), abs=2e-4)
    assert (np.diff(np.flatnonzero(log_mixture(k, n, grid) < math.log(20))) == 1).all(), "the set is an interval"


def _counts(share: float) -> np.ndarray:
    draws = np.random.default_rng([3, round(share * 100)]).random((AUDITS, IMAGES)) < share
    return np.cumsum(draws, axis=1)


@pytest.mark.parametrize("share", SHARES)
def test_looking_after_every_image_misses_at_most_as_often_as_stated_and_fixed_n_misses_more(share: float) -> None:
    """2,000 audits; each is looked at after every image, and the last look is that of the planned number."""
    counts, n = _counts(share), np.arange(1, IMAGES + 1)
    missed = log_mixture(counts, n, share) >= math.log(1 / EARLY_ERROR)
    low, high = share_bounds(counts[:40], n, EARLY_ERROR)
    assert (missed[:40] == ((low > share) | (high < share))).all()
    last = [share_at("last", np.arange(IMAGES) < k) for k in range(IMAGES + 1)]
    missed[:, -1] = [not last[k].low <= share <= last[k].high for k in counts[:, -1]]
    z = stats.norm.ppf(0.975)
    p = counts / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n)
    half = half * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (middle - half)[0, -1] == pytest.approx(wilson(int(counts[0, -1]), IMAGES).low)
    fixed = (middle - half > share + 1e-12) | (middle + half < share - 1e-12)
    assert missed.any(axis=1).mean() <= 0.05
    assert missed[:, :-1].any(axis=1).mean() <= 0.05 * 0.4
    assert fixed.any(axis=1).mean() > 0.2


@pytest.mark.parametrize("share", SHARES)
def test_the_mean_of_bounded_values_is_rarely_missed_at_any_look(share: float) -> None:
    draws = np.random.default_rng([4, round(share * 100)])
    values = draws.beta(4 * share, 4 * (1 - share), (100, IMAGES))
    looks = (8, 16, 32, 64, 128, 256, IMAGES)
    intervals = [[mean_sequence(row[:n], level=0.95) for n in looks] for row in values]
    assert np.mean([any(not i.low <= share <= i.high for i in row) for row in intervals]) <= 0.05


def test_the_betting_interval_is_that_of_a_slow_twin_over_a_grid() -> None:
    values = np.random.default_rng(5).beta(2, 5, 60)
    error, grid = 0.05, np.linspace(0.001, 0.999, 999)
    above, below = np.ones_like(grid), np.ones_like(grid)
    total, squares = 0.5, 0.25
    for t, x in enumerate(values, start=1):  # equations 23 to 26 of arXiv:2010.09686, one value after another
        bet = math.sqrt(2 * math.log(2 / error) / (squares / t * t * math.log(t + 1)))
        above *= 1 + np.minimum(bet, 0.5 / grid) * (x - grid)
        below *= 1 - np.minimum(bet, 0.5 / (1 - grid)) * (x - grid)
        total += x
        squares += (x - total / (t + 1)) ** 2
    inside = grid[np.maximum(above, below) / 2 < 1 / error]
    interval = mean_sequence(values, level=1 - error)
    assert (interval.low, interval.high) == pytest.approx((inside.min(), inside.max()), abs=2e-3)
    shifted = mean_sequence(2 * values - 1, bounds=(-1, 1), level=1 - error)
    assert (shifted.low, shifted.high) == pytest.approx((2 * interval.low - 1, 2 * interval.high - 1))


def test_the_p_value_of_discordant_pairs_is_valid_after_every_pair() -> None:
    falls = np.random.default_rng(6).random((AUDITS, 300)) < 0.5
    first, n = np.cumsum(falls, axis=1), np.arange(1, 301)
    anytime = np.exp(-log_mixture(first, n, 0.5))
    assert (anytime < 0.05).any(axis=1).mean() <= 0.05
    fixed = 2 * stats.binom.cdf(np.minimum(first, n - first), n, 0.5)
    assert (fixed < 0.05).any(axis=1).mean() > 0.2
    assert balance_p_value(int(first[0, -1]), 300 - int(first[0, -1])) == pytest.approx(min(1, anytime[0, -1]))
    # 20 pairs, all one way, by rational arithmetic: 2^20 B(8 + 20, 8) / B(8, 8).
    factor = Fraction(2**20)
    for i in range(20):
        factor *= Fraction(8 + i, 16 + i)
    assert balance_p_value(20, 0) == pytest.approx(1 / float(factor))


def test_a_last_look_costs_little_and_a_single_look_nothing() -> None:
    outcomes = np.arange(500) < 200
    only, last, early = (share_at(look, outcomes) for look in ("only", "last", "early"))
    assert only == share_of(outcomes)
    assert 1 < (last.high - last.low) / (only.high - only.low) < 1.1
    assert 1.6 < (early.high - early.low) / (only.high - only.low) < 2
    assert (1 - LAST_LEVEL) + EARLY_ERROR == pytest.approx(0.05)
    assert {last.method, early.method} == {"confidence sequence 95%"}


def test_paired_outcomes_are_compared_by_what_holds_at_the_look() -> None:
    draws = np.random.default_rng(7)
    before, after = draws.random(300) < 0.4, draws.random(300) < 0.6
    assert balance_test_at("only", before, after) == mcnemar(before, after)
    tests = {look: balance_test_at(look, before, after) for look in ("only", "last", "early")}
    assert tests["only"].p_value < tests["last"].p_value <= tests["early"].p_value * 5
    assert tests["last"].p_value == pytest.approx(tests["only"].p_value / 0.8)
    widths = [(i := difference_at(look, before, after)).high - i.low for look in ("only", "last", "early")]
    assert widths == sorted(widths) and widths[2] < 2.5 * widths[0]
    for look in ("only", "last", "early"):
        interval = difference_at(look, before, after)
        assert interval.low <= after.mean() - before.mean() <= interval.high
        with pytest.raises(UsageError, match="same examples twice"):
            difference_at(look, before, after[:-1])


def test_values_outside_their_bounds_are_refused() -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        mean_sequence([0.2, 1.5])
    with pytest.raises(UsageError, match="no interval"):
        share_sequence(3, 2)
    assert mean_at("early", [0.0, 1.0], (0, 1)).n == 2
