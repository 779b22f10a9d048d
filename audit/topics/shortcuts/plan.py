"""The cell that searches for shortcuts."""

from __future__ import annotations

from typing import Any

from audit.core.registry import find
from audit.core.types import PassCount
from audit.metrics.shortcuts import MIN_CLUSTER_IMAGES
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.explanations import attribution_passes, of_all_images
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.shortcuts import ShortcutsConfig

METHOD = "integrated-gradients"
SETTINGS: dict[str, Any] = {"method": {"steps": 16, "max_steps": 16}, "output": "logit", "baseline": "mean"}
"""The attribution by pixel in which shortcuts are searched: coarse, since a region is judged over many images."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell over the first images of the audit order.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if examples := builder.config.table(ShortcutsConfig).examples:
        method = find("attribution", METHOD)
        (chunk,) = builder.chunks(examples, examples)
        settings = SETTINGS | {"method": method.settings(SETTINGS["method"])}
        builder.add("shortcuts", method.name, model, chunk, settings=settings, version=method.full_version)


PLACES = 5
"""Places that are tested of one class at most: of all its images, and of up to four clusters of them."""


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The map, and four exchanges of two predictions for every place that could be tested.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    explained, images = attribution_passes(task, identity.shape, most=True), len(task.examples)
    if explained is None:
        return None
    classes = min(len(identity.classes), images // MIN_CLUSTER_IMAGES)
    return explained + PassCount(8 * PLACES * classes, 0)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """The maps: few places are worth a test.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What cells like it cost so far.
    """
    return experience.passes_like(task) or of_all_images(attribution_passes(task, identity.shape, most=False), task)
