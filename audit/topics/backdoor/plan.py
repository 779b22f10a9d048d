"""The cell that searches for a planted trigger."""

from __future__ import annotations

import math

from audit.core.types import PassCount
from audit.metrics.neural_cleanse import MAX_CLASSES
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.backdoor import BackdoorConfig


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell: half of its images to search with, half to score on.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if examples := builder.config.table(BackdoorConfig).examples:
        builder.metric_cells("backdoor", "smallest-triggers", model, builder.chunks(examples, examples))


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Every step stamps a batch for each class; then each patch is tried on half of the images.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    classes, images = len(identity.classes), max(1, len(task.examples))
    if classes > MAX_CLASSES:
        return PassCount(0, 0)
    stamped = math.ceil(task.cell.settings["steps"] * task.cell.settings["batch"] * classes / images)
    return PassCount(stamped + classes + 1, stamped)
