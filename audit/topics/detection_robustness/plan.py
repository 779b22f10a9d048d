"""The cells that attack a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.core.registry import Method, find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps
from audit.topics.detection_robustness import DetectionRobustnessConfig

IMAGES_PER_CELL = 100
"""Most images in a cell, unless the configuration says fewer; a killed process loses its cell."""
ON_THE_CURVE = ("vanish", "untargeted")
"""The aims that are also sought at the other eps of the curve."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Every aim and noise at the eps of the verdict; two aims at the others. The first cell holds all that is shown.

    Args:
        builder: The plan so far.
        model: The detector.
    """
    config = builder.config.table(DetectionRobustnessConfig)
    headline = headline_eps(builder.config, builder.identity)
    tog, noise = find("detection-attack", "tog"), find("detection-attack", "detection-noise")
    shown = config.pictures if builder.config.report.images else 0
    for chunk in builder.chunks(config.examples, min(IMAGES_PER_CELL, max(shown, builder.config.chunk))):
        pictures = shown if chunk.start == 0 else 0
        for eps in curve_eps(builder.config, builder.identity):
            for aim in config.aims:
                if eps == headline:
                    _add(builder, model, chunk, eps, tog, {"aim": aim, "steps": config.steps}, pictures)
                elif aim in ON_THE_CURVE:
                    _add(builder, model, chunk, eps, tog, {"aim": aim, "steps": config.steps})
        _add(builder, model, chunk, headline, noise, {})


def _add(
    builder: PlanBuilder,
    model: ModelRef,
    chunk: Slice,
    eps: float,
    method: Method,
    settings: Mapping[str, Any],
    pictures: int = 0,
) -> None:
    builder.add(
        "detection-attack",
        method.name,
        model,
        chunk,
        settings={**method.settings(settings), "pictures": pictures},
        version=method.full_version,
        threat={"norm": builder.config.robustness.norm, "eps": eps},
    )


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Those of the attack, and one forward of the verifier an image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    method = find("detection-attack", task.cell.method)
    settings = {name: value for name, value in task.cell.settings.items() if name in method.defaults}
    return (method.max_passes(settings, identity.shape) or PassCount()) + PassCount(1, 0)
