"""Weak slices and rates by group: planted ones are found, none are found where there are none, fairlearn agrees."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from scipy import stats

from audit.core.statistics import holm, newcombe_difference
from audit.metrics.feature_clusters import feature_clusters
from audit.metrics.group_rates import group_rates
from audit.metrics.slice_candidates import SliceCandidate, as_groups, slice_candidates
from audit.metrics.weak_slices import fisher_p_values, halves, weak_slices

CLASSES = tuple(f"class {i}" for i in range(10))
COUNT = 1000


def described(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two attributes and a site of a thousand images; those of class 3 are dark."""
    draw = np.random.default_rng(seed)
    labels = np.arange(COUNT) % len(CLASSES)
    brightness = draw.normal(0.5, 0.1, COUNT)
    brightness[labels == 3] -= 0.4
    site = np.where(draw.random(COUNT) < 0.3, "north", "south")
    return {"brightness": brightness, "contrast": draw.normal(0.3, 0.1, COUNT), "site": site}, labels


def candidates(seed: int = 0) -> list[SliceCandidate]:
    return list(slice_candidates(*described(seed), CLASSES, fewest=40))


def test_a_class_that_is_darkened_is_found_by_its_brightness() -> None:
    _, labels = described()
    right = np.random.default_rng(1).random(COUNT) < np.where(labels == 3, 0.5, 0.92)
    first = weak_slices(right, candidates())[0]
    (condition,) = first.candidate.conditions
    assert (condition.attribute, condition.level) == ("brightness", "lowest-tenth")
    assert first.p_value < 0.01 and first.is_weak
    assert first.gap.low < -0.42 < first.gap.high


def test_a_weakness_within_a_class_is_told_from_the_rest_of_the_class() -> None:
    columns, labels = described()
    among = labels == 5
    low = among & (columns["contrast"] <= np.quantile(columns["contrast"][among], 0.2))
    right = np.random.default_rng(2).random(COUNT) < np.where(low, 0.05, 0.97)
    first = weak_slices(right, candidates())[0]
    assert first.candidate.conditions[0].attribute in ("label", "contrast")
    within = [c for c in candidates() if [x.attribute for x in c.conditions] == ["label", "contrast"]]
    assert all((c.among == (labels == labels[c.members][0])).all() for c in within)


def test_on_shuffled_answers_at_most_one_slice_in_twenty_seeds_is_weak() -> None:
    right = np.arange(COUNT) % 10 != 0
    shuffled = (np.random.default_rng(seed).permutation(right) for seed in range(20))
    found = [s for seed, answers in enumerate(shuffled) for s in weak_slices(answers, candidates(seed), seed=seed)]
    assert len(found) >= 10  # so many were tested
    assert sum(item.is_weak for item in found) <= 1


def test_what_was_chosen_on_one_half_does_not_decide_on_the_other() -> None:
    choosing = halves(COUNT, 0)
    dark = candidates()[0].members
    right = ~(dark & choosing)  # wrong on the first half alone
    tested = weak_slices(right, candidates())
    assert tested and not any(item.is_weak for item in tested)
    assert choosing.sum() == COUNT // 2


def test_the_p_value_is_that_of_fishers_exact_test() -> None:
    draw = np.random.default_rng(3)
    yes, everything = draw.random(COUNT) < 0.8, np.ones(COUNT, bool)
    some = candidates()[:6]
    for candidate, p_value in zip(some, fisher_p_values(yes, some, everything), strict=True):
        inside, outside = candidate.members, candidate.among & ~candidate.members
        table = [[(yes & part).sum(), (~yes & part).sum()] for part in (inside, outside)]
        assert p_value == pytest.approx(stats.fisher_exact(table, alternative="less").pvalue, rel=1e-10)


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]).size == 0


def test_newcombes_interval_is_that_of_his_examples() -> None:
    """Newcombe 1998, table II, method 10: 56/70 and 48/80; 9/10 and 3/10; 10/10 and 0/10."""
    for counts, low, high in (((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090)):
        interval = newcombe_difference(*counts)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    whole = newcombe_difference(10, 10, 0, 10)
    assert (whole.low, whole.high) == pytest.approx((0.6075, 1.0), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_rates_by_group_are_those_of_fairlearn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    groups = draw.choice(["a", "b", "c", "d"], 300, p=[0.5, 0.3, 0.15, 0.05])
    right = draw.random(300) < 0.7
    frame = MetricFrame(
        metrics=lambda y_true, y_pred: float(np.mean(y_pred)), y_true=right, y_pred=right, sensitive_features=groups
    )
    rates = group_rates(right, groups)
    assert rates is not None and rates.ratio is not None
    assert {name: share.estimate for name, share in rates.by_group.items()} == pytest.approx(
        frame.by_group.to_dict(), abs=1e-9
    )
    assert rates.overall.estimate == pytest.approx(frame.overall, abs=1e-9)
    assert rates.group_min == pytest.approx(frame.group_min(), abs=1e-9)
    assert rates.group_max == pytest.approx(frame.group_max(), abs=1e-9)
    assert rates.difference.estimate == pytest.approx(frame.difference(), abs=1e-9)
    assert rates.ratio.estimate == pytest.approx(frame.ratio(), abs=1e-9)


def test_the_interval_of_the_difference_holds_the_true_one_though_the_ends_were_chosen() -> None:
    groups = np.repeat([f"{i}" for i in range(8)], 60)
    held = 0
    for seed in range(40):
        rates = group_rates(np.random.default_rng(seed).random(480) < 0.8, groups)
        assert rates is not None and rates.difference.estimate > 0
        held += rates.difference.low <= 0.0
    assert held >= 38


def test_of_two_groups_the_difference_has_newcombes_interval_whichever_is_ahead() -> None:
    right, groups = np.r_[np.ones(56), np.zeros(14), np.ones(48), np.zeros(32)], np.array(["a"] * 70 + ["b"] * 80)
    for names in (groups, np.where(groups == "a", "z", groups)):
        rates = group_rates(right, names)
        assert rates is not None and rates.difference.estimate == pytest.approx(0.2)
        assert (rates.difference.low, rates.difference.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    alike = group_rates(np.tile([1, 0], 40), np.repeat(["a", "b"], 40))
    assert alike is not None and alike.difference.low == 0 < alike.difference.high


@pytest.mark.parametrize("groups", [2, 4])
def test_the_difference_of_groups_holds_at_every_look_of_a_study_that_may_stop(groups: int) -> None:
    """Alike groups, looked at after 80, 160, 320 and 480: the true difference, 0, is missed at any look in 5% at most,
    where intervals of one look miss it more often."""
    of = np.arange(480) % groups
    missed, naive = 0, 0
    for seed in range(40):
        yes = np.random.default_rng(seed).random(480) < 0.6
        looks = [(n, "last" if n == 480 else "early") for n in (80, 160, 320, 480)]
        valid = [group_rates(yes[:n], of[:n].astype(str), look) for n, look in looks]  # type: ignore[arg-type]
        once = [group_rates(yes[:n], of[:n].astype(str)) for n, _ in looks]
        missed += any(rates is not None and rates.difference.low > 0 for rates in valid)
        naive += any(rates is not None and rates.difference.low > 0 for rates in once)
    assert missed <= 2 and missed <= naive
    assert groups > 2 or naive > 2


def test_one_group_is_not_compared_and_all_wrong_has_no_ratio() -> None:
    assert group_rates(np.ones(4), np.array(["a"] * 4)) is None
    rates = group_rates(np.zeros(4), np.array(["a", "a", "b", "b"]))
    assert rates is not None and rates.ratio is None and rates.difference.estimate == 0


def test_numbers_of_few_values_are_groups_and_unknown_ones_are_none() -> None:
    groups = as_groups(np.array([1.0, 2.0, np.nan, 1.0]))
    assert groups is not None and groups.tolist() == ["1", "2", "", "1"]
    assert as_groups(np.linspace(0, 1, 50)) is None


def test_clusters_are_those_that_were_planted() -> None:
    draw = np.random.default_rng(4)
    centres, of = draw.normal(0, 10, (4, 50)), np.arange(400) % 4
    clusters = feature_clusters(centres[of] + draw.normal(0, 0.5, (400, 50)), 4, seed=0)
    assert all(len(set(clusters[of == group].tolist())) == 1 for group in range(4))
    assert len(set(clusters.tolist())) == 4
    assert (feature_clusters(np.ones((5, 3)), 2) < 2).all()
