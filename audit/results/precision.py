"""Whether the maps of a method are as precise as asked, for checks that rest on them."""

from __future__ import annotations

from audit.core.evidence import Verdict
from audit.results.queries import on_clean_images, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

LEAST_REACHED = 0.5
"""Share of the maps below which nothing is concluded from them: noise passes for what a map says or fails to say."""


def precise_entries(results: RunResults, role: str, method: str) -> tuple[TaskResult, ...]:
    """The cells of a method's maps of clean images of which a precision was asked.

    Args:
        results: The run.
        role: Role of the model.
        method: Name of the attribution method.
    """
    entries = only_measured(on_clean_images(results.entries("explanation", role=role, method=method)))
    return tuple(e for e in entries if any(m.name == "reached" for m in e.evidence.measurements))


def unless_imprecise(results: RunResults, role: str, method: str, verdict: Verdict) -> Verdict:
    """The verdict on the maps of a method: inconclusive where fewer than half of them are as precise as asked.

    Args:
        results: The run.
        role: Role of the model.
        method: Name of the attribution method.
        verdict: The verdict of the measurement.
    """
    entries = precise_entries(results, role, method)
    if not entries or per_example(entries, "reached").values.mean() >= LEAST_REACHED:
        return verdict
    return "inconclusive"
