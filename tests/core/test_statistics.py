from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audit.core.errors import UsageError
from audit.core.statistics import (
    bootstrap_mean,
    clopper_pearson,
    mcnemar,
    mean_ranks,
    paired_difference,
    share_of,
    wilson,
)

Z = 1.959963984540054


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 3000))
    return draw(st.integers(0, n)), n


@given(counts())
def test_wilson_bounds_solve_the_score_equation(drawn: tuple[int, int]) -> None:
    k, n = drawn
    found = wilson(k, n)
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            assert abs(k / n - bound) == pytest.approx(Z * math.sqrt(bound * (1 - bound) / n), rel=1e-6)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_wilson_matches_a_published_value() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263."""
    found = wilson(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


@given(counts())
def test_clopper_pearson_bounds_have_the_tail_they_promise(drawn: tuple[int, int]) -> None:
    k, n = drawn
    found = clopper_pearson(k, n)
    if k > 0:
        assert stats.binom.sf(k - 1, n, found.low) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, found.high) == pytest.approx(0.025, rel=1e-6)


@given(counts(), st.sampled_from([0.9, 0.95, 0.999]))
def test_intervals_of_a_share_are_those_of_scipy(drawn: tuple[int, int], level: float) -> None:
    for method, ours in (("wilson", wilson(*drawn, level=level)), ("exact", clopper_pearson(*drawn, level=level))):
        theirs = stats.binomtest(*drawn).proportion_ci(level, method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-11)


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**6])
def test_bounds_at_none_and_at_all_are_the_closed_forms_and_never_leave_the_unit_interval(n: int) -> None:
    for interval, far in ((wilson, Z**2 / (n + Z**2)), (clopper_pearson, 1 - 0.025 ** (1 / n))):
        none, every = interval(0, n), interval(n, n)
        assert (none.low, none.estimate, every.estimate, every.high) == (0, 0, 1, 1)
        assert none.high == pytest.approx(far, rel=1e-6) and 1 - every.low == pytest.approx(far, rel=1e-6)
        ks = sorted({0, 1, n // 2, max(n - 1, 0), n})
        ends = [(interval(k, n).low, interval(k, n).high) for k in ks]
        assert ends == sorted(ends), "more successes never lower a bound"
        assert [high for _, high in ends] == sorted(high for _, high in ends)


def test_an_interval_of_nothing_is_refused() -> None:
    for k, n in ((0, 0), (3, 2), (-1, 4)):
        with pytest.raises(UsageError, match="no interval"):
            wilson(k, n)
    with pytest.raises(UsageError, match="at least one"):
        bootstrap_mean([])
    with pytest.raises(UsageError, match="finite"):
        bootstrap_mean([1.0, math.nan])


def test_share_counts_true_values_of_any_number_type() -> None:
    assert share_of([True, False, True, True]).estimate == 0.75
    assert share_of(np.array([1.0, 0.0, 0.0, 0.0], np.float32)).n == 4


def test_bootstrap_is_near_the_normal_interval_on_many_normal_values() -> None:
    values = np.random.default_rng(1).normal(3, 2, 4000)
    half = Z * values.std(ddof=1) / math.sqrt(values.size)
    found = bootstrap_mean(values, seed=5)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_repeats_with_its_seed_and_leaves_global_randomness_alone() -> None:
    values = np.random.default_rng(2).exponential(1, 60)
    np.random.seed(4)
    before = np.random.get_state()[1].copy()
    assert bootstrap_mean(values, 7) == bootstrap_mean(values, 7)
    assert bootstrap_mean(values, 7) != bootstrap_mean(values, 8)
    assert (np.random.get_state()[1] == before).all()


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """Skewed values, n=40: BCa's coverage is a little under 95%."""
    draws = np.random.default_rng(3).exponential(1, (200, 40))
    held = [(i := bootstrap_mean(row, 0, resamples=400)).low <= 1 <= i.high for row in draws]
    assert 0.87 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("size", [2, 30, 4001])
def test_bootstrap_is_that_of_scipy_from_the_same_draws(size: int) -> None:
    skewed = np.random.default_rng(size).exponential(size=size)
    ours = bootstrap_mean(skewed, seed=3, level=0.9)
    theirs = stats.bootstrap(
        (skewed,), np.mean, n_resamples=2000, batch=900, confidence_level=0.9, rng=np.random.default_rng(3)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_bootstrap_of_equal_values_is_a_point() -> None:
    found = bootstrap_mean([0.25] * 9)
    assert (found.low, found.estimate, found.high) == (0.25, 0.25, 0.25)


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements(both: int, first: int, second: int) -> None:
    one = [1] * both + [1] * first + [0] * second + [0]
    two = [1] * both + [0] * first + [1] * second + [0]
    found = mcnemar(one, two)
    assert (found.only_first, found.only_second) == (first, second)
    tail = sum(math.comb(first + second, i) for i in range(min(first, second) + 1)) / 2 ** (first + second)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail) if first != second else 1.0, rel=1e-9)


def test_paired_difference_matches_the_adjusted_wald_formula_by_hand() -> None:
    one = [1] * 30 + [1] * 12 + [0] * 4 + [0] * 14
    two = [1] * 30 + [0] * 12 + [1] * 4 + [0] * 14
    found = paired_difference(one, two)
    b, c, n = 4.5, 12.5, 62
    half = Z * math.sqrt(b + c - (b - c) ** 2 / n) / n
    assert found.estimate == pytest.approx((4 - 12) / 60)
    assert (found.low, found.high) == (pytest.approx((b - c) / n - half), pytest.approx((b - c) / n + half))


def test_paired_difference_turns_with_its_arguments() -> None:
    one, two = np.random.default_rng(0).random((2, 80)) < 0.6
    there, back = paired_difference(one, two), paired_difference(two, one)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))


def test_pairs_must_be_of_the_same_examples() -> None:
    with pytest.raises(UsageError, match="same examples"):
        mcnemar([1, 0], [1])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_mean_ranks_are_those_of_scipy(values: list[int]) -> None:
    assert np.array_equal(mean_ranks(values), stats.rankdata(values))
