"""The cell that examines whether a model can be evaluated at all."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity

EXAMPLES = 64
"""Number of examples that the sanity checks of a model run on."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell on the first examples that are attacked, however small those of attacks are: some of its quantities are
    told relative to all of its images.

    Args:
        builder: The plan so far.
        model: The model.
    """
    (chunk,) = builder.chunks(min(EXAMPLES, builder.config.robustness.examples), EXAMPLES)
    builder.add("model-sanity", "honest-evaluation", model, chunk)


CHECKS = PassCount(44, 6)
"""The most that `audit.metrics.model_checks` asks of an image."""


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Every check of every example.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return CHECKS
