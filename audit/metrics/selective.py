"""Refusing the least sure predictions: how many errors are left on the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from audit.core.evidence import Array
from audit.core.statistics import LEVEL, Interval, clopper_pearson


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
    """The threshold that keeps the most predictions with errors of at most a share, by SGR (arXiv:1705.08500).

    Geifman and El-Yaniv 2017, algorithm 2: a binary search over the examples in the order of their confidence, each of
    whose log2(N) steps asks for the exact binomial upper bound of its share of errors at an equal part of the error
    probability, so that all bounds hold together.

    Args:
        confidence: How sure the model is, (N,).
        correct: Whether it is right, (N,), of the same examples; none of those that the threshold is used on.
        risk: The most errors among accepted predictions, in (0, 1).
        level: The probability with which the bound holds.

    Returns:
        The threshold; None where none reaches it.
    """
    sure, wrong = np.asarray(confidence, np.float64), ~np.asarray(correct).astype(bool)
    ascending = np.argsort(sure, kind="stable")
    sure, wrong = sure[ascending], wrong[ascending]
    count = len(sure)
    steps = max(1, math.ceil(math.log2(count))) if count else 0
    low, high = 0, count - 1
    best: GuaranteedThreshold | None = None
    for _ in range(steps):
        middle = (low + high) // 2
        accepted = sure >= sure[middle]
        bound = _upper(int(wrong[accepted].sum()), int(accepted.sum()), (1 - level) / steps)
        if bound <= risk:
            best = GuaranteedThreshold(float(sure[middle]), float(accepted.mean()), bound)
            high = middle - 1
        else:
            low = middle + 1
        if low > high:
            break
    return best


def _upper(errors: int, n: int, error_probability: float) -> float:
    """The exact one-sided upper bound of a binomial share (Clopper and Pearson 1934)."""
    return float(betaincinv(errors + 1, n - errors, 1 - error_probability)) if errors < n else 1.0
