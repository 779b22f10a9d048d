"""The cells that compare integer kernels with the audited form of an int8 model."""

from __future__ import annotations

from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Every test image, for a model made by int8 whose input ranges were calibrated.

    Args:
        builder: The plan so far.
        model: The model.
    """
    made_by_int8 = model.role == "compressed" and builder.config.compression.method == "int8"
    if made_by_int8 and builder.identity.train_examples:
        for chunk in builder.chunks(builder.identity.test_examples, 10 * EXAMPLES_PER_CELL):
            builder.add("int8-engine", "integer-kernels", model, chunk)
