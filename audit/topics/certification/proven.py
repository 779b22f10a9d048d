"""The share of images that is proven robust, for those who judge robust accuracy."""

from __future__ import annotations

import numpy as np

from audit.core.statistics import Interval, share_of
from audit.results.queries import only_measured
from audit.results.run_results import RunResults
from audit.topics.certification.facts import LINEAR_BOUNDS, PROVEN, CertificationFacts


def proven_by_bounds(results: RunResults, role: str, norm: str, eps: float) -> Interval | None:
    """The share proven robust by linear bounds, with the interval of its images; None where nothing was tried.

    Args:
        results: The run.
        role: Role of the model.
        norm: Norm of the ball.
        eps: Its size.
    """
    rows = []
    for entry in only_measured(results.entries("certification", role=role)):
        facts = entry.evidence.facts_as(CertificationFacts)
        if entry.task.cell.method == LINEAR_BOUNDS and facts.norm == norm and eps in facts.eps:
            rows.append(np.asarray(entry.evidence.arrays["verdicts"])[facts.eps.index(eps)] == PROVEN)
    return share_of(np.concatenate(rows).astype(np.float64)) if rows else None
