"""The cells of corruptions."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder, select_methods
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each corruption at each severity, on growing numbers of images where the study may stop early.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.corruptions
    for method in select_methods("corruption", config.names):
        for severity in config.severities:
            for chunk in builder.growing_chunks("corruption", config.examples, 4 * EXAMPLES_PER_CELL):
                settings = {"severity": severity}
                builder.add("corruption", method.name, model, chunk, settings=settings, version=method.full_version)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward per image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1, 0)
