"""Temperature scaling: one number that makes confidences believable and changes no prediction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import logsumexp

from audit.core.evidence import Array
from audit.metrics.classification import probabilities

BOUNDS = (0.01, 100.0)
"""Between which temperatures one is sought: beyond, the likelihood has no maximum, as where every answer is right."""


def negative_log_likelihood(logits: Array, labels: Array) -> NDArray[np.float64]:
    """Minus the logarithm of the probability of the right class, float64 (N,).

    Args:
        logits: Float (N, K).
        labels: Integer (N,).
    """
    values = np.asarray(logits, np.float64)
    return np.asarray(logsumexp(values, axis=1) - values[np.arange(len(labels)), labels], np.float64)


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature T of least mean negative log-likelihood of softmax(logits / T) (Guo 2017, arXiv:1706.04599).

    The likelihood is convex in 1 / T, and its derivative there is the mean of what the model expects of the logits less
    the logit of the right class; the one root of that is found by bisection (Brent).

    Args:
        logits: Float (N, K).
        labels: Integer (N,).

    Returns:
        T, within `BOUNDS`.
    """
    values = np.asarray(logits, np.float64)
    values = values - values.max(1, keepdims=True)
    right = values[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        expected = (probabilities(values * math.exp(log_inverse)) * values).sum(1)
        return float((expected - right).mean())

    low, high = (-math.log(bound) for bound in reversed(BOUNDS))
    if slope(low) >= 0:
        return BOUNDS[1]
    if slope(high) <= 0:
        return BOUNDS[0]
    return math.exp(-float(optimize.brentq(slope, low, high, xtol=1e-10)))
