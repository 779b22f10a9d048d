"""The cells that make a patch and score it."""

from __future__ import annotations

import math

from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.detection_patch import DetectionPatchConfig
from audit.topics.detection_patch.facts import PATCH_CONDITIONS, DetectionPatchSettings

IMAGES_A_STEP = 16
"""Images whose mean gradient a step follows: with twice as many, patches on the detector for shapes were no better."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each patch in one cell, whose halves are disjoint.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    config = builder.config.table(DetectionPatchConfig)
    if not config.examples:
        return
    method = find("detection-attack", "detector-patch")
    (chunk,) = builder.chunks(config.examples, config.examples)
    for kind in config.kinds:
        aim = "fabricate" if kind == "fake" else "vanish"
        attack = method.settings({"aim": aim, "steps": config.steps, "images_a_step": IMAGES_A_STEP})
        settings = DetectionPatchSettings(
            kind=kind,
            area=config.object_area if kind == "hide" else config.area,
            attack=attack,
            pictures=config.pictures if builder.config.report.images else 0,
        )
        builder.add("detection-patch", method.name, model, chunk, settings=settings.dump(), version=method.full_version)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """The search on half of the images, and one forward of the others under each condition.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    attack, images = DetectionPatchSettings.of(task.cell).attack, max(1, len(task.examples))
    search = math.ceil(attack["steps"] * min(attack["images_a_step"], math.ceil(images / 2)) / images)
    return PassCount(search + len(PATCH_CONDITIONS), search)
