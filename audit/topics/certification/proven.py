"""What proofs say of robust accuracy, for those who judge it."""

from __future__ import annotations

import numpy as np

from audit.core.evidence import Array
from audit.core.statistics import Interval, share_of
from audit.results.queries import furthest, group_by_condition, only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.certification.facts import BROKEN, LINEAR_BOUNDS, PROVEN, CertificationFacts


def certificates_of(results: RunResults, role: str) -> tuple[TaskResult, ...]:
    """The certificates of a model that hold numbers; of proofs that were asked further, the last.

    Args:
        results: The run.
        role: Role of the model.
    """
    return furthest(only_measured(results.entries("certification", role=role)))


def proven_by_bounds(results: RunResults, role: str, norm: str, eps: float) -> Interval | None:
    """The share proven robust by linear bounds, with the interval of its images; None where nothing was tried.

    Args:
        results: The run.
        role: Role of the model.
        norm: Norm of the ball.
        eps: Its size.
    """
    verdicts = _verdicts(results, role, norm, eps)
    return None if verdicts is None else share_of((verdicts == PROVEN).astype(np.float64))


def settled_by_bounds(results: RunResults, role: str, threshold: float) -> bool:
    """Whether proofs decide, at the eps of the verdict, if robust accuracy reaches a threshold, however attacks fare.

    That many are proven, or that too many are broken, each by an image that was checked.

    Args:
        results: The run.
        role: Role of the model.
        threshold: The share that is asked.
    """
    decided = False
    for at, _ in group_by_condition(certificates_of(results, role)):
        verdicts = _verdicts(results, role, at.norm, at.eps) if at.method == LINEAR_BOUNDS else None
        if verdicts is not None:
            decided = bool((verdicts == PROVEN).mean() >= threshold or (verdicts != BROKEN).mean() < threshold)
    return decided


def _verdicts(results: RunResults, role: str, norm: str, eps: float) -> Array | None:
    rows = []
    for entry in certificates_of(results, role):
        facts = entry.evidence.facts_as(CertificationFacts)
        if entry.task.cell.method == LINEAR_BOUNDS and facts.norm == norm and eps in facts.eps:
            rows.append(np.asarray(entry.evidence.arrays["verdicts"])[facts.eps.index(eps)])
    return np.concatenate(rows) if rows else None
