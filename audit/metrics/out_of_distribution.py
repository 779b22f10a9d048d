"""Telling images that a model was not made for: scores of how strange an image is, and how well they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import logsumexp, ndtri

from audit.core.evidence import Array
from audit.core.statistics import LEVEL, Interval, clopper_pearson, mean_ranks
from audit.metrics.classification import probabilities

NEIGHBOURS_COUNTED = 10
"""How many neighbours the distance of kNN goes to."""
_SHRINKAGE = 1e-3
"""The share of the mean variance that is added to every variance, so that the covariance can be inverted."""


@dataclass(frozen=True)
class FeatureReference:
    """What features of the images that a model was made for look like.

    Attributes:
        means: The mean of each class that has images, float64 (K, D).
        precision: The inverse of the covariance within the classes, float64 (D, D).
        bank: Features of length 1, float64 (M, D).
    """

    means: NDArray[np.float64]
    precision: NDArray[np.float64]
    bank: NDArray[np.float64]


def fit_reference(features: Array, labels: Array) -> FeatureReference:
    """Fit the class-conditional Gaussians of one covariance (Lee et al. 2018, arXiv:1807.03888), and keep the features.

    Args:
        features: Float (M, D).
        labels: Their classes, int64 (M,).
    """
    rows = np.asarray(features, np.float64)
    classes, of = np.unique(np.asarray(labels), return_inverse=True)
    means = np.stack([rows[of == number].mean(0) for number in range(len(classes))])
    centred = rows - means[of]
    covariance = centred.T @ centred / len(rows)
    ridge = _SHRINKAGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
    precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    return FeatureReference(means, precision, _unit(rows))


def mahalanobis_distance(reference: FeatureReference, features: Array) -> NDArray[np.float64]:
    """The squared Mahalanobis distance to the nearest class mean, float64 (N,); higher is stranger.

    Args:
        reference: From `fit_reference`.
        features: Float (N, D).
    """
    rows = np.asarray(features, np.float64)
    turned, means = rows @ reference.precision, reference.means
    squared = (turned * rows).sum(1)[:, None] - 2 * turned @ means.T + ((means @ reference.precision) * means).sum(1)
    return np.asarray(np.maximum(squared, 0).min(1), np.float64)


def neighbour_distance(reference: FeatureReference, features: Array) -> NDArray[np.float64]:
    """The distance to the tenth neighbour among features of length 1 (Sun et al. 2022, arXiv:2204.06507), (N,).

    Args:
        reference: From `fit_reference`.
        features: Float (N, D).
    """
    squared = 2 - 2 * _unit(np.asarray(features, np.float64)) @ reference.bank.T
    nearest = min(NEIGHBOURS_COUNTED, squared.shape[1]) - 1
    return np.sqrt(np.maximum(np.partition(squared, nearest, axis=1)[:, nearest], 0))


def logit_scores(logits: Array) -> dict[str, NDArray[np.float64]]:
    """Scores of logits by name, each (N,), higher is stranger.

    `MSP` is minus the highest probability (Hendrycks and Gimpel 2017, arXiv:1610.02136), `energy` minus the logarithm
    of the sum of exponentials (Liu et al. 2020, arXiv:2010.03759), `max-logit` minus the highest logit
    (arXiv:1911.11132).

    Args:
        logits: Float (N, K).
    """
    values = np.asarray(logits, np.float64)
    return {
        "MSP": -probabilities(values).max(1),
        "energy": -np.asarray(logsumexp(values, axis=1), np.float64),
        "max-logit": -values.max(1),
    }


def auroc(ordinary: Array, strange: Array, *, level: float = LEVEL) -> Interval:
    """The probability that a strange image scores higher than an ordinary one, ties counted half.

    The interval is Newcombe's (2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic, part 2", method 5): the values that are no further from the estimate than z standard errors of Hanley and
    McNeil taken at the value itself. It stays within [0, 1] and has a width where all are told apart.

    Args:
        ordinary: Scores of images that the model was made for, (N,).
        strange: Scores of others, (M,).
        level: Confidence level, in (0, 1).
    """
    first, second = np.asarray(ordinary, np.float64), np.asarray(strange, np.float64)
    n, m = len(first), len(second)
    ranks = mean_ranks(np.concatenate([first, second]))
    estimate = float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
    z, mean = float(ndtri((1 + level) / 2)), (n + m) / 2 - 1

    def beyond(value: float) -> float:
        spread = 1 + mean * ((1 - value) / (2 - value) + value / (1 + value))
        return (value - estimate) ** 2 - z**2 * max(value * (1 - value) * spread, 0.0) / (n * m)

    low = 0.0 if estimate <= 0 else float(optimize.brentq(beyond, 0.0, estimate)) if beyond(estimate) < 0 else estimate
    high = 1.0 if estimate >= 1 else float(optimize.brentq(beyond, estimate, 1.0)) if beyond(estimate) < 0 else estimate
    if estimate >= 1:
        low = float(optimize.brentq(beyond, 0.0, 1 - 1e-9))
    if estimate <= 0:
        high = float(optimize.brentq(beyond, 1e-9, 1.0))
    return Interval(estimate, low, high, n + m, f"Newcombe {level:.0%}")


def fpr_at_95(ordinary: Array, strange: Array) -> Interval:
    """The share of ordinary images that are refused with 95% of the strange ones (FPR95), with its interval.

    Args:
        ordinary: Scores of images that the model was made for, (N,).
        strange: Scores of others, (M,).
    """
    descending = np.sort(np.asarray(strange, np.float64))[::-1]
    threshold = descending[math.ceil(0.95 * len(descending) - 1e-9) - 1]
    refused = int((np.asarray(ordinary) >= threshold).sum())
    return clopper_pearson(refused, len(ordinary))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float64)
