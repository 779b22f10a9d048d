"""Refusing the least sure predictions: how many errors are left on the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from audit.core.evidence import Array
from audit.core.statistics import LEVEL, Interval, clopper_pearson

_STARTS = 8
"""Coverages from which thresholds are lowered."""


@dataclass(frozen=True)
class RiskCoverage:
    """The share of errors among the surest predictions, by how many are kept.

    Attributes:
        coverage: Share of the predictions that is kept, float64 (N,), 1/N to 1.
        risk: Share of errors among those, float64 (N,); predictions of equal confidence count as their mean.
        aurc: The mean risk over all coverages, the area under the curve.
        e_aurc: What it exceeds the area of the best order by, in which every error comes last.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: float
    e_aurc: float


@dataclass(frozen=True)
class GuaranteedThreshold:
    """A confidence from which predictions are accepted, with a bound on their errors.

    Attributes:
        confidence: The threshold: predictions at least as sure are accepted.
        accepted: Share of the examples accepted where it was chosen.
        bound: What the share of errors among accepted predictions is at most, with the probability asked for.
    """

    confidence: float
    accepted: float
    bound: float


def risk_coverage(confidence: Array, correct: Array) -> RiskCoverage:
    """The risk-coverage curve with its area (Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206).

    Args:
        confidence: How sure the model is, (N,); higher is surer.
        correct: Whether it is right, (N,).
    """
    sure, wrong = np.asarray(confidence, np.float64), ~np.asarray(correct).astype(bool)
    order = np.argsort(-sure, kind="stable")
    _, group = np.unique(-sure[order], return_inverse=True)
    errors = (np.bincount(group, wrong[order]) / np.bincount(group))[group]
    kept = np.arange(1, len(sure) + 1)
    risk = np.cumsum(errors) / kept
    best = np.maximum(0, kept - int((~wrong).sum())) / kept
    return RiskCoverage(kept / len(sure), risk, float(risk.mean()), float(risk.mean() - best.mean()))


def risk_at_coverage(confidence: Array, correct: Array, coverage: float) -> Interval:
    """The share of errors among the surest predictions, with Clopper and Pearson's interval.

    Args:
        confidence: How sure the model is, (N,).
        correct: Whether it is right, (N,).
        coverage: Share of the predictions that is kept, in (0, 1].
    """
    kept = max(1, math.ceil(coverage * len(confidence) - 1e-9))
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")[:kept]
    return clopper_pearson(int((~np.asarray(correct).astype(bool))[order].sum()), kept)


def guaranteed_threshold(
    confidence: Array, correct: Array, risk: float, *, level: float = LEVEL
) -> GuaranteedThreshold | None:
    """The lowest threshold that is shown to keep errors at most at a share, by fixed sequences of tests.

    Angelopoulos, Bates, Candes, Jordan and Lei 2021, "Learn then Test" (arXiv:2110.01052): from each of eight
    coverages, an eighth to all of the examples, thresholds are lowered while the exact binomial upper bound of the
    share of errors, at an eighth of the error probability, is at most the risk; a sequence ends where it is not. So
    all that is found holds together. A search by halves, as selective guaranteed risk has it (Geifman and El-Yaniv
    2017, arXiv:1705.08500, algorithm 2), takes the bound to fall with the coverage; it rises again where few examples
    are left, and the search misses what lies between.

    Args:
        confidence: How sure the model is, (N,).
        correct: Whether it is right, (N,), of the same examples; none of those that the threshold is used on.
        risk: The most errors among accepted predictions, in (0, 1).
        level: The probability with which the bound holds.

    Returns:
        The threshold; None where none is shown to reach it.
    """
    sure, wrong = np.asarray(confidence, np.float64), ~np.asarray(correct).astype(bool)
    count = len(sure)
    if not count:
        return None
    falling = -np.sort(-sure)
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of equally sure ones
    accepted = last + 1
    errors = np.cumsum(wrong[np.argsort(-sure, kind="stable")])[last]
    bounds = _upper(errors, accepted, (1 - level) / _STARTS)
    starts = np.searchsorted(accepted, [math.ceil(count * start / _STARTS) for start in range(1, _STARTS + 1)])
    fails = np.append(np.flatnonzero(bounds > risk), len(bounds))
    ends = fails[np.searchsorted(fails, starts)] - 1  # the last that passes of each sequence
    end = int(np.max(ends, where=ends >= starts, initial=-1))
    if end < 0:
        return None
    return GuaranteedThreshold(float(falling[last[end]]), float(accepted[end] / count), float(bounds[end]))


def fewest_for_guarantee(risk: float, *, level: float = LEVEL) -> int:
    """The fewest examples on which `guaranteed_threshold` can show a risk, if the model makes no error.

    Args:
        risk: The most errors among accepted predictions, in (0, 1).
        level: The probability with which the bound holds.
    """
    return math.ceil(math.log((1 - level) / _STARTS) / math.log1p(-risk))


def _upper(errors: Array, n: Array, error_probability: float) -> NDArray[np.float64]:
    """The exact one-sided upper bound of binomial shares (Clopper and Pearson 1934)."""
    right = np.maximum(n - errors, 1)
    return np.where(errors < n, betaincinv(errors + 1, right, 1 - error_probability), 1.0)
