"""How often a classifier is right, class by class, and whether its confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from audit.core.evidence import Array
from audit.core.statistics import LEVEL, RESAMPLES, Interval

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True)
class PerClass:
    """Precision, recall and F1 as shares, and the number of examples, each (classes,). 0 where undefined."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence: `edges` (B+1,); `count`, mean `confidence` and `accuracy` in each, (B,); 0 where empty."""

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by count."""
        return float(np.abs(self.confidence - self.accuracy) @ self.count / max(1, self.count.sum()))


def probabilities(logits: Array) -> NDArray[np.float64]:
    """Softmax of logits (N, classes), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    grown = np.exp(shifted)
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float64)


def per_class(labels: Array, predictions: Array, classes: int) -> PerClass:
    """Precision, recall and F1 of each of `classes` classes from int labels and predictions (N,)."""
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=np.arange(classes), zero_division=0.0
    )
    return PerClass(precision, recall, f1, support)


def confusion(labels: Array, predictions: Array, classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): row the label, column the prediction."""
    return np.asarray(confusion_matrix(labels, predictions, labels=np.arange(classes)), np.int64)


def reliability(logits: Array, labels: Array, bins: int = BINS) -> Reliability:
    """Confidence against accuracy in equal-width bins (low, high], from logits (N, classes) and labels (N,)."""
    confidence, correct = _confidence(logits, labels)
    place = _bin(confidence, bins)
    count = np.bincount(place, minlength=bins)
    full = np.maximum(count, 1)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        count,
        np.bincount(place, confidence, minlength=bins) / full,
        np.bincount(place, correct, minlength=bins) / full,
    )


def calibration_error(
    logits: Array, labels: Array, *, seed: int = 0, bins: int = BINS, resamples: int = RESAMPLES
) -> Interval:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599) with a basic bootstrap interval.

    The basic (reflected) interval, because resampling adds noise to every bin and so inflates the error.
    """
    confidence, correct = _confidence(logits, labels)
    estimate = reliability(logits, labels, bins).error
    place, n = _bin(confidence, bins), len(labels)
    gap = confidence - correct
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        chosen = rng.integers(0, n, n)
        drawn[i] = np.abs(np.bincount(place[chosen], gap[chosen], minlength=bins)).sum() / n
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    low, high = (float(np.clip(2 * estimate - bound, 0, 1)) for bound in (upper, lower))
    return Interval(estimate, min(low, estimate), max(high, estimate), n, f"basic bootstrap {LEVEL:.0%}")


def _confidence(logits: Array, labels: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shares = probabilities(logits)
    predicted = shares.argmax(axis=1)
    return shares.max(axis=1), (predicted == labels).astype(np.float64)


def _bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    place: NDArray[np.int64] = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    return place
