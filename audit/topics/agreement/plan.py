"""The cell that compares the maps of every two methods."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell over the maps of the clean images, where there are two methods or more.

    Args:
        builder: The plan so far.
        model: The model.
    """
    methods = explained_methods(builder)
    if len(methods) > 1:
        inputs = {method.name: explanation_of(builder, method.name, model.role) for method in methods}
        builder.add("agreement", "rank-correlation", model, builder.explained, inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """None: maps are compared that are there.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(0, 0)
