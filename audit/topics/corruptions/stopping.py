"""How much accuracy corruptions cost, and when enough images are corrupted."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config import RunConfig
from audit.core.statistics import Interval
from audit.results.queries import clean_correct, corruption_correct
from audit.results.run_results import RunResults
from audit.results.stopping import Reading, mean_of_entries


def mean_fall(results: RunResults, role: str) -> Interval | None:
    """The mean fall in accuracy over corruptions and severities, an image; None where nothing was measured.

    Args:
        results: The run.
        role: Role of the model.
    """
    corrupted = corruption_correct(results, role)
    before = clean_correct(results, role).at(corrupted.positions)
    corrupted = corrupted.at(before.positions)
    if not corrupted.values.size:
        return None
    entries = results.entries("corruption", role=role)
    return mean_of_entries(results, entries, before.values - corrupted.values, (-1.0, 1.0))


def readings(results: RunResults, role: str, config: RunConfig) -> Iterator[Reading]:
    """The mean fall in accuracy against `corruption_drop`.

    Args:
        results: The run so far.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the threshold.
    """
    fall = mean_fall(results, role)
    if fall is not None:
        yield Reading(fall, config.criteria.corruption_drop, least=False)
