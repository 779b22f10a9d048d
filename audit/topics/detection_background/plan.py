"""The cell that hides and moves the objects that are found."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.detection_background import DetectionBackgroundConfig

SCORE = 0.5
"""What counts as found scores at least this."""
_USUAL_OBJECTS = 8
"""Objects an image, for the cost: COCO has 7.3."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell: an object is moved into another of its images.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    count = min(builder.config.table(DetectionBackgroundConfig).examples, builder.identity.test_examples)
    if count >= 2:
        builder.add(
            "detection-background", "hidden-and-moved", model, Slice("test", 0, count), settings={"score": SCORE}
        )


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward an image, and two an object that is found; of objects the usual number is taken.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1 + 2 * _USUAL_OBJECTS, 0)
