"""The cells that explain found boxes, and those of the controls."""

from __future__ import annotations

from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder, select_methods
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.detection_explanations import DetectionExplanationsConfig


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell a method, and one of the controls; of many images several. The first holds all that is shown.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    config = builder.config.table(DetectionExplanationsConfig)
    pictures = config.pictures if builder.config.report.images else 0
    for chunk in builder.chunks(config.examples, max(pictures, builder.config.chunk)):
        common = {"boxes": config.boxes, "steps": config.steps}
        builder.add("box-controls", "controls", model, chunk, settings=common)
        for method in select_methods("detection-attribution", config.methods):
            own = method.settings({"samples": config.masks} if method.name == "d-rise" else {})
            shown = {"pictures": pictures if chunk.start == 0 else 0}
            settings = {**own, **common, **shown}
            builder.add("box-explanation", method.name, model, chunk, settings=settings, version=method.full_version)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Those of the method for every box, and those of the curves.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings = task.cell.settings
    boxes, steps = int(settings["boxes"]), int(settings["steps"])
    if task.cell.study == "box-controls":
        return PassCount(1 + 2 * (2 + (1 + boxes) * (steps - 1)), 0)
    method = find("detection-attribution", task.cell.method)
    own = {name: value for name, value in settings.items() if name in method.defaults}
    passes: PassCount = method.facts["passes"](own, identity.shape, boxes)
    return passes + PassCount(1 + 2 * (2 + boxes * (steps - 1)), 0)
