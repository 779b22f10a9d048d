"""Clean accuracy and calibration as verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import (
    accuracy_entry,
    entry,
    results_of,
)
from made_run import finding_of

from audit.config import load_config
from audit.core.statistics import wilson
from audit.results.queries import clean_correct
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults


@pytest.mark.parametrize(("share", "verdict"), [(0.95, "pass"), (0.8, "inconclusive"), (0.5, "fail")])
def test_clean_accuracy_is_held_to_its_threshold(share: float, verdict: str) -> None:
    right = (np.arange(100) < 100 * share).astype(float)
    found = finding_of(results_of(entry("accuracy", "standard", {"correct": right})), "clean-accuracy")
    assert found.verdict == verdict
    expected = wilson(round(100 * share), 100)
    assert found.interval == (expected.low, expected.high)
    assert found.n == 100
    assert (found.advice == "") == (verdict == "pass")


def test_chunks_of_examples_are_one_measurement() -> None:
    whole = results_of(accuracy_entry("standard", 0.9, 60), accuracy_entry("standard", 0.9, 40, start=60))
    assert finding_of(whole, "clean-accuracy").n == 100
    assert clean_correct(whole, "standard").positions.tolist() == list(range(100))


def test_calibration_fails_a_model_that_is_always_too_sure() -> None:
    labels = (np.arange(200) % 2).astype(np.int64)
    logits = np.tile(np.array([[6.0, 0.0]], np.float32), (200, 1))
    arrays = {"logits": logits, "labels": labels}
    results = results_of(entry("accuracy", "standard", {"correct": labels == 0}, arrays=arrays))
    found = finding_of(results, "calibration")
    assert found.verdict == "fail"
    assert found.estimate == pytest.approx(0.4975, abs=1e-3)


def test_a_single_image_says_nothing_of_confidence() -> None:
    arrays = {"logits": np.array([[6.0, 0.0]], np.float32), "labels": np.array([1])}
    results = results_of(entry("accuracy", "standard", {"correct": np.zeros(1)}, arrays=arrays))
    assert finding_of(results, "calibration").verdict == "inconclusive"


def classified(predicted: np.ndarray, labels: np.ndarray, classes: int) -> RunResults:
    arrays = {"logits": 5 * np.eye(classes, dtype=np.float32)[predicted], "labels": labels}
    return results_of(entry("accuracy", "standard", {"correct": predicted == labels}, arrays=arrays))


@pytest.mark.parametrize("classes", [2, 10])
def test_classes_in_another_order_are_told_with_the_order(classes: int) -> None:
    """As a face detector's is, whose first output means no face, on folders `face` and `other`."""
    labels = np.arange(200) * 7 % 13 % classes
    turned = (labels + 1) % classes
    right = np.where(np.arange(200) % 20 == 5, labels, turned)
    found = finding_of(classified(right, labels, classes), "class-order")
    assert found.verdict == "warn" and found.estimate == pytest.approx(0.95, abs=0.06)
    assert found.n == 100 and "where it is on" in found.title
    assert "Output 1 is class 0." in found.explanation and "--labels-map" in found.advice


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_no_order_is_told_where_none_fits_better(share: float) -> None:
    """Not of a good model, and not of one that guesses: the order is judged on other images than it was fitted on."""
    rng = np.random.default_rng(0)
    for classes in (2, 10, 100):
        labels = rng.integers(0, classes, 300)
        predicted = np.where(rng.random(300) < share, labels, rng.integers(0, classes, 300))
        assert all(f.check != "class-order" for f in run_checks(classified(predicted, labels, classes), load_config()))


def test_two_exchanged_classes_of_ten_are_enough() -> None:
    labels = np.arange(400) * 7 % 10
    predicted = np.array([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])[labels]
    found = finding_of(classified(predicted, labels, 10), "class-order")
    assert found.estimate == 1.0 and "Output 3 is class 8. Output 8 is class 3." in found.explanation
