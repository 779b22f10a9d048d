"""Split conformal prediction: sets of classes that hold the right one with a probability asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from audit.core.evidence import Array

ConformalScore = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Takes probabilities (N, K) and a uniform draw an example, (N,), and says how strange each class would be, (N, K)."""
RAPS_PENALTY, RAPS_FREE = 0.01, 5
"""What each class beyond the first five costs in RAPS."""


def threshold_scores(probabilities: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """THR (Sadinle, Lei and Wasserman 2019, arXiv:1609.00451): one minus the probability of the class.

    Args:
        probabilities: Float64 (N, K), rows that sum to 1.
        draws: Unused.
    """
    return 1 - probabilities


def adaptive_scores(probabilities: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """APS (Romano, Sesia and Candès 2020, arXiv:2006.02544): the probability of all classes that are at least as
    likely, less a random share of the class's own, without which the surest predictions would get empty sets.

    Args:
        probabilities: Float64 (N, K), rows that sum to 1.
        draws: The share, uniform in [0, 1], of each example, (N,).
    """
    return np.asarray(_cumulated(probabilities)[0] - draws[:, None] * probabilities, np.float64)


def regularised_scores(probabilities: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAPS (Angelopoulos, Bates, Malik and Jordan 2021, arXiv:2009.14193): APS, and 0.01 for each place beyond the
    fifth.

    Args:
        probabilities: Float64 (N, K), rows that sum to 1.
        draws: As for APS.
    """
    _, place = _cumulated(probabilities)
    return np.asarray(
        adaptive_scores(probabilities, draws) + RAPS_PENALTY * np.maximum(0, place - RAPS_FREE), np.float64
    )


CONFORMAL_METHODS: Mapping[str, ConformalScore] = {
    "THR": threshold_scores,
    "APS": adaptive_scores,
    "RAPS": regularised_scores,
}
"""By name, the score of a method."""


def conformal_threshold(scores: Array, labels: Array, error: float) -> float:
    """The score up to which classes are in the set: the ceil((n + 1)(1 - error))-th smallest of the right classes.

    Args:
        scores: Of calibration examples, float64 (n, K).
        labels: Their classes, int64 (n,).
        error: The share of sets that may miss the right class, in (0, 1).

    Returns:
        The threshold; infinite where there are too few examples, so that every class is in every set.
    """
    right = np.sort(np.asarray(scores)[np.arange(len(labels)), labels])
    position = math.ceil((len(right) + 1) * (1 - error) - 1e-12)
    return float(right[position - 1]) if position <= len(right) else math.inf


def conformal_sets(scores: Array, threshold: float) -> NDArray[np.bool_]:
    """Which classes are in the set of each example, bool (N, K).

    Args:
        scores: Float64 (N, K).
        threshold: From `conformal_threshold`.
    """
    return np.asarray(np.asarray(scores) <= threshold)


def coverage_band(calibrated: int, evaluated: int, error: float, *, level: float = 0.95) -> tuple[float, float]:
    """Between which shares the coverage lies with a probability, were the examples exchangeable and scores unequal.

    The number of covered examples is then beta-binomial (Vovk 2012, "Conditional validity of inductive conformal
    predictors"), of `evaluated` draws with parameters k and n + 1 - k, k the rank of the threshold.

    Args:
        calibrated: Number of calibration examples, n.
        evaluated: Number of other examples.
        error: The share of sets that may miss the right class.
        level: The probability.
    """
    rank = math.ceil((calibrated + 1) * (1 - error) - 1e-12)
    if rank > calibrated:
        return 1.0, 1.0
    tail, covered = (1 - level) / 2, np.arange(evaluated + 1)
    first, second = rank, calibrated + 1 - rank
    # C(m, k) = 1 / ((m + 1) B(k + 1, m - k + 1))
    logs = betaln(covered + first, evaluated - covered + second) - betaln(covered + 1, evaluated - covered + 1)
    cumulated = np.cumsum(np.exp(logs - betaln(first, second)) / (evaluated + 1))
    low, high = np.searchsorted(cumulated, [tail, 1 - tail])
    return float(low) / evaluated, float(high) / evaluated


def _cumulated(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The probability of each class and all likelier ones, and its place among them, from 1."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    cumulated, place = np.empty_like(probabilities), np.empty(probabilities.shape, np.int64)
    np.put_along_axis(cumulated, order, np.cumsum(np.take_along_axis(probabilities, order, 1), 1), 1)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(1, order.shape[1] + 1), order.shape), 1)
    return cumulated, place
