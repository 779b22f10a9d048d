"""The cell that searches for a planted trigger."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.topics.backdoor import BackdoorConfig


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell: half of its images to search with, half to score on.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if examples := builder.config.table(BackdoorConfig).examples:
        builder.metric_cells("backdoor", "smallest-triggers", model, builder.chunks(examples, examples))
