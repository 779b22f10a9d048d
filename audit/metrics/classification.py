"""Precision, recall, confusion and calibration of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.core.statistics import LEVEL, RESAMPLES, Interval

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True)
class PerClass:
    """How well each class is recognised; 0 where undefined.

    Attributes:
        precision: Share of the predictions of a class that are right, float64 (classes,).
        recall: Share of a class's examples that are recognised, float64 (classes,).
        f1: Their harmonic mean, float64 (classes,).
        support: Examples of each class, int64 (classes,).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in B bins of confidence; 0 where a bin is empty.

    Attributes:
        edges: Of the bins, float64 (B + 1,) in [0, 1].
        count: Examples in each, int64 (B,).
        confidence: Their mean confidence, float64 (B,).
        accuracy: The share of them that are right, float64 (B,).
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by count."""
        return float(np.abs(self.confidence - self.accuracy) @ self.count / max(1, self.count.sum()))


def probabilities(logits: Array) -> NDArray[np.float64]:
    """The softmax, float64 (N, classes).

    Args:
        logits: Float (N, classes).
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float64)


def per_class(labels: Array, predictions: Array, classes: int) -> PerClass:
    """Precision, recall and F1 of each class.

    Args:
        labels: Integer (N,).
        predictions: Integer (N,).
        classes: How many classes there are.
    """
    given, named = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    right, support, predicted = (np.bincount(v, minlength=classes) for v in (given[given == named], given, named))
    return PerClass(
        right / np.maximum(predicted, 1),
        right / np.maximum(support, 1),
        2 * right / np.maximum(support + predicted, 1),
        support,
    )


def confusion(labels: Array, predictions: Array, classes: int) -> NDArray[np.int64]:
    """The confusion matrix, counts int64 (classes, classes): row the label, column the prediction.

    Args:
        labels: Integer (N,).
        predictions: Integer (N,).
        classes: How many classes there are.
    """
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64, copy=False)


def reliability(logits: Array, labels: Array, bins: int = BINS) -> Reliability:
    """Confidence against accuracy in equal-width bins (low, high].

    Args:
        logits: Float (N, classes).
        labels: Integer (N,).
        bins: How many bins.
    """
    return reliability_of(*_confidence(logits, labels), bins=bins)


def reliability_of(confidence: NDArray[np.float64], correct: NDArray[np.float64], *, bins: int = BINS) -> Reliability:
    """Confidence against accuracy in equal-width bins (low, high].

    Args:
        confidence: In [0, 1], float64 (N,).
        correct: Whether each is right, 0 or 1, float64 (N,).
        bins: How many bins.
    """
    bin_of = bin_of_confidence(confidence, bins)
    count = np.bincount(bin_of, minlength=bins)
    full = np.maximum(count, 1)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        count,
        np.bincount(bin_of, confidence, minlength=bins) / full,
        np.bincount(bin_of, correct, minlength=bins) / full,
    )


def calibration_error(
    logits: Array, labels: Array, *, seed: int = 0, bins: int = BINS, resamples: int = RESAMPLES
) -> Interval:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599) with a basic bootstrap interval.

    The basic (reflected) interval, because resampling adds noise to every bin and so inflates the error.

    Args:
        logits: Float (N, classes).
        labels: Integer (N,).
        seed: Of the resampling.
        bins: Equal-width bins of confidence.
        resamples: Bootstrap samples.
    """
    confidence, correct = _confidence(logits, labels)
    estimate = reliability(logits, labels, bins).error
    bin_of, n = bin_of_confidence(confidence, bins), len(labels)
    gap = confidence - correct
    rng = np.random.default_rng(seed)
    errors = np.empty(resamples)
    for i in range(resamples):
        resample = rng.integers(0, n, n)
        errors[i] = np.abs(np.bincount(bin_of[resample], gap[resample], minlength=bins)).sum() / n
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(errors, [tail, 1 - tail])
    low, high = (float(np.clip(2 * estimate - bound, 0, 1)) for bound in (upper, lower))
    return Interval(estimate, min(low, estimate), max(high, estimate), n, f"basic bootstrap {LEVEL:.0%}")


def _confidence(logits: Array, labels: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shares = probabilities(logits)
    predicted = shares.argmax(axis=1)
    return shares.max(axis=1), (predicted == labels).astype(np.float64)


def bin_of_confidence(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The equal-width bin (low, high] of each confidence, int64 (N,); 0 is in the first.

    Args:
        confidence: In [0, 1], float64 (N,).
        bins: How many bins.
    """
    index: NDArray[np.int64] = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    return index
