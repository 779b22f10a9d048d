"""The cells that compare maps with the masks of the data."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of


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
