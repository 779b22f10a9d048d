"""The cells of corruptions of a detector's images."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder, select_methods
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each corruption at each severity.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    config = builder.config.corruptions
    for method in select_methods("corruption", config.names):
        for severity in config.severities:
            for chunk in builder.chunks(config.examples, EXAMPLES_PER_CELL):
                settings = {"severity": severity}
                builder.add(
                    "detection-corruption", method.name, model, chunk, settings=settings, version=method.full_version
                )


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward an image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1, 0)
