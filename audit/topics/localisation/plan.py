"""The cells that compare maps with the masks of the data."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each method's maps of the clean images, where the data has masks.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if builder.identity.masked:
        for method in explained_methods(builder):
            inputs = {"explanation": explanation_of(builder, method.name, model.role)}
            builder.add("localisation", method.name, model, builder.explained, inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """None: maps are compared with masks.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(0, 0)
