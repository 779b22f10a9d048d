"""The cells that measure a detector on clean images."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.detection_accuracy import DetectionAccuracyConfig


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Every test image.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    config = builder.config.table(DetectionAccuracyConfig)
    pictures = config.pictures if builder.config.report.images else 0
    for chunk in builder.chunks(builder.identity.test_examples, EXAMPLES_PER_CELL):
        builder.add("detection-accuracy", "clean", model, chunk, settings={"pictures": pictures})


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward an image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1, 0)
