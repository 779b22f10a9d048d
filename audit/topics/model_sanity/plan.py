"""The cell that examines whether a model can be evaluated at all."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder

EXAMPLES = 64
"""Number of examples that the sanity checks of a model run on."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell on the first examples that are attacked.

    Args:
        builder: The plan so far.
        model: The model.
    """
    (chunk,) = builder.chunks(min(EXAMPLES, builder.config.robustness.examples), EXAMPLES)
    builder.add("model-sanity", "honest-evaluation", model, chunk)
