"""What the study of clean accuracy says beside its arrays."""

from __future__ import annotations

from audit.core.evidence import Facts
from audit.results.run_results import RunResults


class AccuracyFacts(Facts):
    """What the scores are.

    Attributes:
        independent: Whether each class has a sigmoid score of its own, so that there is no confidence to calibrate.
    """

    independent: bool = False


def scores_are_independent(results: RunResults, role: str) -> bool:
    """Whether a model gives each class a score of its own, of which no calibration error can be told.

    Args:
        results: The run.
        role: Role of the model.
    """
    entries = results.entries("accuracy", role=role)
    return any(entry.evidence.facts_as(AccuracyFacts).independent for entry in entries)
