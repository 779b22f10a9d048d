from __future__ import annotations

import numpy as np
import pytest

from audit.metrics.classification import calibration_error, confusion, per_class, probabilities, reliability


def test_per_class_numbers_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    predictions = np.array([0, 0, 1, 1, 0, 0])
    found = per_class(labels, predictions, 4)
    assert found.precision == pytest.approx([2 / 4, 1 / 2, 0, 0])
    assert found.recall == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert found.f1[0] == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert found.support.tolist() == [3, 2, 1, 0]


def test_confusion_has_labels_in_rows() -> None:
    assert confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_probabilities_survive_huge_logits() -> None:
    found = probabilities(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
    assert found == pytest.approx(np.array([[1, 0], [0.5, 0.5]]))


def test_calibration_error_is_the_slow_sum_over_bins() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (300, 5)), rng.integers(0, 5, 300)
    shares = probabilities(logits)
    total = 0.0
    for i in range(15):
        inside = [j for j in range(300) if i / 15 < shares[j].max() <= (i + 1) / 15]
        if inside:
            accuracy = np.mean([shares[j].argmax() == labels[j] for j in inside])
            total += len(inside) / 300 * abs(accuracy - np.mean([shares[j].max() for j in inside]))
    assert reliability(logits, labels).error == pytest.approx(total)


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    """Confidence 0.8 throughout, right on 8 of every 10."""
    logits = np.tile(np.log([[0.8, 0.2]]), (100, 1))
    labels = (np.arange(100) % 10 >= 8).astype(int)
    assert reliability(logits, labels).error == pytest.approx(0, abs=1e-12)


def test_calibration_interval_holds_its_estimate_and_shrinks_with_examples() -> None:
    rng = np.random.default_rng(1)

    def width(n: int) -> float:
        logits, labels = rng.normal(0, 2, (n, 4)), rng.integers(0, 4, n)
        found = calibration_error(logits, labels, resamples=200)
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        return found.high - found.low

    assert width(4000) < width(100)


def test_a_calibrated_model_seems_off_on_few_images_and_its_lower_bound_rarely_does() -> None:
    """Labels drawn from the confidences: the error is that of drawing them alone, and must not fail a model."""
    rng = np.random.default_rng(3)
    errors, failed = [], 0
    for _ in range(40):
        logits = rng.normal(0, 2, (100, 4))
        labels = np.array([rng.choice(4, p=row) for row in probabilities(logits)])
        found = calibration_error(logits, labels, resamples=200)
        errors.append(found.estimate)
        failed += found.low > 0.05
    assert 0.06 < np.mean(errors) < 0.12
    assert failed <= 6
