"""When to refuse: closed forms and slow twins, MAPIE and pytorch-ood as oracles, coverage in its exact band."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore, RAPSConformityScore
from pytorch_ood.detector import EnergyBased, MaxLogit
from pytorch_ood.metrics.functional import auroc as pytorch_ood_auroc
from pytorch_ood.metrics.functional import fpr_at_tpr
from scipy import stats

from audit.metrics.classification import probabilities
from audit.metrics.conformal import (
    CONFORMAL_METHODS,
    conformal_sets,
    conformal_threshold,
    coverage_band,
    regularised_scores,
)
from audit.metrics.out_of_distribution import (
    auroc,
    fit_reference,
    fpr_at_95,
    logit_scores,
    mahalanobis_distance,
    neighbour_distance,
)
from audit.metrics.selective import fewest_for_guarantee, guaranteed_threshold, risk_at_coverage, risk_coverage
from audit.metrics.temperature import fit_temperature, negative_log_likelihood

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def predictions(count: int, classes: int = 6, seed: int = 0, sharpness: float = 1.5) -> tuple[Numbers, Numbers]:
    """Logits, and labels that are drawn from their softmax: calibrated by construction."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, sharpness, (count, classes))
    labels = (probabilities(logits).cumsum(1) > draw.random((count, 1))).argmax(1)
    return logits, labels


def test_the_area_is_the_mean_risk_and_exceeds_the_best_order_by_nothing_there() -> None:
    correct = np.array([True, True, False, True, False])
    curve = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), correct)
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 4, 2 / 5])
    assert curve.aurc == pytest.approx(np.mean([0, 0, 1 / 3, 1 / 4, 2 / 5]))
    assert curve.e_aurc == pytest.approx(curve.aurc - np.mean([0, 0, 0, 1 / 4, 2 / 5]))
    assert risk_coverage(np.array([0.9, 0.8, 0.1]), np.array([True, True, False])).e_aurc == pytest.approx(0)


def test_predictions_of_equal_confidence_count_as_their_mean() -> None:
    one = risk_coverage(np.array([0.5, 0.5]), np.array([True, False]))
    other = risk_coverage(np.array([0.5, 0.5]), np.array([False, True]))
    assert one.risk.tolist() == other.risk.tolist() == [0.5, 0.5]


def test_the_risk_at_a_coverage_is_that_of_the_surest() -> None:
    sure = np.linspace(1, 0, 10)
    risk = risk_at_coverage(sure, sure > 0.55, 0.8)
    assert (risk.estimate, risk.n) == (3 / 8, 8) and risk.low < 3 / 8 < risk.high


def test_the_bound_of_the_threshold_fails_no_more_often_than_it_may() -> None:
    """Calibrated answers of known risk: over 100 draws the true risk above the threshold exceeds 10% in at most 5%."""
    confidences, _ = predictions(40_000, seed=9, sharpness=4.0)
    truth = probabilities(confidences).max(1)
    exceeded = chosen = 0
    for seed in range(100):
        logits, labels = predictions(400, seed=100 + seed, sharpness=4.0)
        shares = probabilities(logits)
        threshold = guaranteed_threshold(shares.max(1), shares.argmax(1) == labels, 0.1)
        if threshold is not None:
            chosen += 1
            exceeded += 1 - truth[truth >= threshold.confidence].mean() > 0.1
    assert chosen > 50 and exceeded <= stats.binom.ppf(0.999, 100, 0.05)


def test_no_threshold_reaches_what_no_prediction_does() -> None:
    assert guaranteed_threshold(np.linspace(0, 1, 100), np.zeros(100, bool), 0.1) is None
    found = guaranteed_threshold(np.linspace(0, 1, 1000), np.ones(1000, bool), 0.05)
    assert found is not None and found.accepted == 1.0 and found.bound < 0.05


def slow_threshold(sure: Numbers, wrong: Numbers, risk: float) -> float | None:
    """Eight sequences, a step at a time, by scipy's own binomial: the lowest threshold that one of them reaches."""
    found, thresholds = None, sorted(set(sure.tolist()), reverse=True)
    for start in range(1, 9):
        for threshold in thresholds:
            kept = sure >= threshold
            if kept.sum() < math.ceil(len(sure) * start / 8):
                continue
            if stats.binom.cdf(wrong[kept].sum(), kept.sum(), risk) > 0.05 / 8:  # a share of `risk` is not refuted
                break
            found = threshold if found is None else min(found, threshold)
    return found


@pytest.mark.parametrize("levels", [7, 40, 10_000])
def test_the_threshold_is_the_lowest_that_a_sequence_of_tests_reaches(levels: int) -> None:
    draws, reached = np.random.default_rng(levels), 0
    for _ in range(40):
        sure = np.round(draws.random(200) * levels) / levels
        wrong = draws.random(200) < 0.3 * (1 - sure) ** 3
        found = guaranteed_threshold(sure, ~wrong, 0.1)
        assert (found.confidence if found else None) == slow_threshold(sure, wrong, 0.1)
        reached += found is not None
    assert 10 < reached


def test_a_model_without_errors_needs_as_many_images_as_the_bound_does() -> None:
    fewest = fewest_for_guarantee(0.05)
    assert fewest == 99 and fewest_for_guarantee(0.02) == 252
    sure = np.random.default_rng(0).random(fewest)
    found = guaranteed_threshold(sure, np.ones(fewest, bool), 0.05)
    assert found is not None and found.accepted == 1.0
    assert guaranteed_threshold(sure[1:], np.ones(fewest - 1, bool), 0.05) is None


def test_a_half_that_fails_hides_no_threshold_above_it() -> None:
    """400 images, the surest ten wrong: a search that begins at one half finds none there, nor in fewer images."""
    sure = np.linspace(1, 0, 400)
    found = guaranteed_threshold(sure, np.arange(400) >= 8, 0.05)
    assert found is not None and found.accepted == 1.0


@pytest.mark.parametrize("method", CONFORMAL_METHODS)
def test_coverage_lies_in_its_exact_band_over_200_splits(method: str) -> None:
    """Of 200 calibrations, 99% of the coverages lie in the beta-binomial band of 99%, within its own binomial band."""
    scores, inside, mean = CONFORMAL_METHODS[method], 0, 0.0
    logits, labels = predictions(200 * 300, classes=10, seed=1)
    values = scores(probabilities(logits), np.random.default_rng(2).random(len(labels)))
    low, high = coverage_band(100, 200, 0.1, level=0.99)
    for split in range(200):
        rows = slice(300 * split, 300 * split + 300)
        part, of = values[rows], labels[rows]
        threshold = conformal_threshold(part[:100], of[:100], 0.1)
        covered = conformal_sets(part[100:], threshold)[np.arange(200), of[100:]].mean()
        inside += low <= covered <= high
        mean += covered / 200
    assert inside >= stats.binom.ppf(1e-4, 200, 0.99)
    assert mean == pytest.approx(91 / 101, abs=0.012)  # k / (n + 1) exactly, n = 100


def test_too_few_calibration_images_put_every_class_in_every_set() -> None:
    logits, labels = predictions(5)
    scores = 1 - probabilities(logits)
    threshold = conformal_threshold(scores, labels, 0.1)
    assert threshold == np.inf and conformal_sets(scores, threshold).all() and coverage_band(5, 9, 0.1) == (1, 1)


@pytest.mark.parametrize("percent", [1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90])
def test_the_rank_of_the_threshold_hangs_on_no_rounding(percent: int) -> None:
    """Of 99 scores 100 - percent exactly; crepes takes one more where 1 - confidence rounds down."""
    scores = np.arange(1.0, 100.0)[:, None]
    assert conformal_threshold(scores, np.zeros(99, np.int64), percent / 100) == 100 - percent
    assert conformal_threshold(scores, np.zeros(99, np.int64), 1 - (1 - percent / 100)) == 100 - percent


class Given:
    """What MAPIE takes for a fitted classifier: the rows of a table of probabilities."""

    def __init__(self, table: Numbers) -> None:
        self.table, self.classes_, self.is_fitted_ = table, np.arange(table.shape[1]), True

    def fit(self, *_: object) -> Given:
        return self

    def predict_proba(self, rows: Numbers) -> Numbers:
        return np.asarray(self.table[np.asarray(rows).ravel().astype(int)])

    def predict(self, rows: Numbers) -> Numbers:
        return np.asarray(self.predict_proba(rows).argmax(1))

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Replayed(np.random.RandomState):
    """Gives the uniform draws that it was told, in the order they are asked for: ours, to MAPIE."""

    def __init__(self, draws: Numbers) -> None:
        super().__init__(0)
        self.left = draws.copy()

    def uniform(self, *_: object, size: Any = None, **__: object) -> Any:
        count = int(np.prod(size))
        given, self.left = self.left[:count], self.left[count:]
        return given.reshape(size)


@pytest.mark.parametrize(
    ("method", "score", "further"),
    [("THR", LACConformityScore, {}), ("APS", APSConformityScore, {"include_last_label": "randomized"})],
)
def test_sets_are_those_of_mapie(method: str, score: Any, further: dict[str, Any]) -> None:
    logits, labels = predictions(400, classes=7, seed=3)
    table, rows = probabilities(logits), np.arange(400)[:, None]
    draws = np.random.default_rng(4).random(400)
    mapie = SplitConformalClassifier(
        Given(table), confidence_level=0.9, conformity_score=score(), prefit=True, random_state=Replayed(draws)
    )
    mapie.conformalize(rows[:200], labels[:200])
    _, sets = mapie.predict_set(rows[200:], conformity_score_params=further)
    scores = CONFORMAL_METHODS[method](table, draws)
    ours = conformal_sets(scores[200:], conformal_threshold(scores[:200], labels[:200], 0.1))
    assert (ours == sets[:, :, 0]).all()


def test_the_penalty_is_that_of_mapies_raps() -> None:
    logits, labels = predictions(200, classes=12, seed=4)
    table = probabilities(logits)
    plain, cutoff = APSConformityScore.get_true_label_cumsum_proba(labels, table, np.arange(12))
    theirs = RAPSConformityScore._regularize_conformity_score(np.array([5]), np.array([0.01]), plain, cutoff)
    ours = regularised_scores(table, np.zeros(200))[np.arange(200), labels]
    np.testing.assert_allclose(ours, np.asarray(theirs).ravel(), atol=1e-12)


@pytest.mark.parametrize("apart", [0.0, 0.7, 2.0, 8.0])
def test_auroc_and_fpr95_are_those_of_pytorch_ood(apart: float) -> None:
    draw = np.random.default_rng(5)
    ordinary, strange = np.round(draw.normal(0, 1, 230), 1), np.round(draw.normal(apart, 1, 170), 1)  # with ties
    scores = torch.from_numpy(np.concatenate([ordinary, strange]))
    labels = torch.tensor([0] * 230 + [-1] * 170)
    told = auroc(ordinary, strange)
    assert told.estimate == pytest.approx(float(pytorch_ood_auroc(scores, labels)), abs=1e-9)
    assert fpr_at_95(ordinary, strange).estimate == pytest.approx(float(fpr_at_tpr(scores, labels)), abs=1e-9)
    assert told.low <= told.estimate <= told.high and told.high - told.low > 0.005


def test_the_interval_of_the_auroc_holds_the_true_one_as_often_as_it_says() -> None:
    draw, true = np.random.default_rng(6), stats.norm.cdf(1 / np.sqrt(2))
    intervals = [auroc(draw.normal(0, 1, 40), draw.normal(1, 1, 30)) for _ in range(400)]
    held = sum(interval.low <= true <= interval.high for interval in intervals)
    assert stats.binom.ppf(0.001, 400, 0.95) <= held <= stats.binom.ppf(0.999, 400, 0.95) + 8


def test_scores_of_logits_are_those_of_pytorch_ood() -> None:
    logits, _ = predictions(50, seed=7)
    scores, given = logit_scores(logits), torch.from_numpy(logits)
    np.testing.assert_allclose(scores["energy"], EnergyBased.score(given).numpy(), atol=1e-9)
    np.testing.assert_allclose(scores["max-logit"], MaxLogit.score(given).numpy(), atol=1e-9)
    np.testing.assert_allclose(scores["MSP"], -torch.softmax(given, 1).max(1).values.numpy(), atol=1e-9)


def test_distances_of_features_are_those_of_a_slow_twin() -> None:
    draw = np.random.default_rng(8)
    labels = np.arange(90) % 3
    features = draw.normal(0, 1, (90, 5)) + labels[:, None]
    asked = draw.normal(1, 2, (20, 5))
    reference = fit_reference(features, labels)
    covariance = sum(
        np.outer(row - features[labels == label].mean(0), row - features[labels == label].mean(0))
        for row, label in zip(features, labels, strict=True)
    ) / len(features)
    inverse = np.linalg.inv(covariance + 1e-3 * np.trace(covariance) / 5 * np.eye(5))
    slow = [
        min((row - features[labels == k].mean(0)) @ inverse @ (row - features[labels == k].mean(0)) for k in range(3))
        for row in asked
    ]
    np.testing.assert_allclose(mahalanobis_distance(reference, asked), slow, rtol=1e-9)
    unit = [row / np.linalg.norm(row) for row in features]
    near = [sorted(float(np.linalg.norm(row / np.linalg.norm(row) - other)) for other in unit)[9] for row in asked]
    np.testing.assert_allclose(neighbour_distance(reference, asked), near, atol=1e-7)


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found(planted: float) -> None:
    logits, labels = predictions(20_000, seed=10)
    assert fit_temperature(logits * planted, labels) == pytest.approx(planted, rel=0.05)


def test_the_temperature_is_the_best_of_a_fine_grid() -> None:
    logits, labels = predictions(300, seed=11)
    logits = logits * 1.7
    grid = np.exp(np.linspace(np.log(0.3), np.log(6), 3001))
    losses = [negative_log_likelihood(logits / t, labels).mean() for t in grid]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    assert negative_log_likelihood(logits / found, labels).mean() <= min(losses) + 1e-12


def test_a_likelihood_without_a_maximum_gives_the_bound() -> None:
    logits, _ = predictions(50, seed=12)
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(0.01)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(100.0)


@pytest.mark.parametrize(("calibrated", "evaluated", "error"), [(100, 200, 0.1), (19, 7, 0.05), (400, 1000, 0.3)])
def test_coverage_band_is_between_quantiles_of_the_beta_binomial(calibrated: int, evaluated: int, error: float) -> None:
    rank = math.ceil((calibrated + 1) * (1 - error))
    covered = stats.betabinom(evaluated, rank, calibrated + 1 - rank)
    assert coverage_band(calibrated, evaluated, error, level=0.95) == tuple(covered.ppf([0.025, 0.975]) / evaluated)
