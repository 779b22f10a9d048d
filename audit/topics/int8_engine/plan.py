"""The cells that compare the file of an int8 model with its differentiable form."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Every test image, for a model made by int8 whose input ranges were calibrated.

    Args:
        builder: The plan so far.
        model: The model.
    """
    made_by_int8 = model.role == "compressed" and builder.config.compression.method == "int8"
    if made_by_int8 and builder.identity.train_examples:
        for chunk in builder.chunks(builder.identity.test_examples, 10 * builder.config.chunk):
            builder.add("int8-engine", "onnxruntime", model, chunk)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward per image by each of the two forms.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(2, 0)
