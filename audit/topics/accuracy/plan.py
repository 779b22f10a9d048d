"""The cells that measure clean accuracy."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import PREDICTED_LABELS, Task
from audit.planning.run_identity import RunIdentity

TIMES_THE_CHUNK = 10
"""Images of a cell, over those that the configuration wants in one of attacks: each is asked once."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Clean accuracy on every test image.

    Args:
        builder: The plan so far.
        model: The model.
    """
    context = {} if builder.identity.labelled else {PREDICTED_LABELS: True}
    for chunk in builder.chunks(builder.identity.test_examples, TIMES_THE_CHUNK * builder.config.chunk):
        builder.add("accuracy", "clean", model, chunk, context=context)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward per image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1, 0)
