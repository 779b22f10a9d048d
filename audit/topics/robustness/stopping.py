"""When enough images are attacked."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config import RunConfig
from audit.results.queries import group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults
from audit.results.stopping import Reading, share_of_entries


def readings(results: RunResults, role: str, config: RunConfig) -> Iterator[Reading]:
    """The robust accuracy of each threat model against `robust_accuracy`.

    Args:
        results: The run so far.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the threshold.
    """
    for _, entries in group_by_condition(only_measured(results.entries("robustness", role=role))):
        share = share_of_entries(results, entries, per_example(entries, "robust").values)
        yield Reading(share, config.criteria.robust_accuracy)
