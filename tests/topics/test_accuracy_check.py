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

from audit.core.statistics import wilson
from audit.results.queries import clean_correct


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
