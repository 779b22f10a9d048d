"""The cell of concepts."""

from __future__ import annotations

from typing import Any

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.concepts import ConceptsConfig

FOLDERS = "concept_folders"
"""Key in the context of a task: by name of a user's concept, its folder."""
LEAST_IMAGES = 4
"""Images of a class, below which no concepts are looked for."""
_CONTROLS = 8
"""Random directions that each concept is compared with, at deletion and insertion together."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell over the first images of the audit order.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.table(ConceptsConfig)
    if not config.examples:
        return
    (chunk,) = builder.chunks(config.examples, config.examples)
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("classes", "count", "crops", "crop", "points", "random")
    }
    context: dict[str, Any] = {}
    if folders := builder.config.explanations.concept_folders:
        settings["folders"] = dict(builder.identity.concepts)
        context[FOLDERS] = folders
    builder.add("concepts", "craft", model, chunk, settings=settings, context=context)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """The crops, and every point of the designs and every control as a whole forward.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings = task.cell.settings
    count = settings["count"]
    after = settings["points"] * (count + 1) + count * (2 + _CONTROLS) + 4
    folders = 2 if "folders" in settings else 0
    return PassCount(settings["crops"] ** 2 + after + 3 + folders, 1 + folders)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What cells like it cost; else a tenth of a forward for each map, as only what follows the layer runs on it.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What cells like it cost so far.
    """
    most, images = max_passes(task, identity), len(task.examples)
    crops = task.cell.settings["crops"] ** 2
    usual = PassCount(images * (crops + 3 + (most.forwards - crops - 3) // 10), images)
    return experience.passes_like(task) or usual
