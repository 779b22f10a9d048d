"""The cells that search for a planted trigger."""

from __future__ import annotations

import math

from audit.core.registry import find
from audit.core.types import PassCount
from audit.metrics.neural_cleanse import MAX_CLASSES
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.parts import part_input, part_inputs
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.backdoor import BackdoorConfig
from audit.topics.backdoor.facts import PART_OF_CLASSES, SearchedClasses


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell: half of its images to search with, half to score on.

    A step of the search stamps a batch for every class. Where that is more images than the configuration wants in a
    cell, the classes are searched in parts, which the cell joins.

    Args:
        builder: The plan so far.
        model: The model.
    """
    examples = builder.config.table(BackdoorConfig).examples
    if not examples:
        return
    (chunk,) = builder.chunks(examples, examples)
    metric, classes = find("metric", "smallest-triggers"), len(builder.identity.classes)
    settings = metric.settings()
    together = max(1, builder.config.chunk // settings["batch"])
    parts = {
        part_input(first): builder.add(
            PART_OF_CLASSES,
            metric.name,
            model,
            chunk,
            settings=settings | SearchedClasses(classes=(first, min(first + together, classes))).dump(),
            version=metric.full_version,
        )
        for first in (range(0, classes, together) if together < classes <= MAX_CLASSES else ())
    }
    builder.add("backdoor", metric.name, model, chunk, settings=settings, version=metric.full_version, inputs=parts)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Every step stamps a batch for each class; then each patch is tried on half of the images.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    classes, images = len(identity.classes), max(1, len(task.examples))
    if task.cell.study == PART_OF_CLASSES:
        first, stop = SearchedClasses.of(task.cell).classes
        return _searched(task, stop - first, images)
    if classes > MAX_CLASSES:
        return PassCount(0, 0)
    judged = PassCount(1, 0)
    return judged if part_inputs(task.cell) else judged + _searched(task, classes, images)


def _searched(task: Task, classes: int, images: int) -> PassCount:
    stamped = math.ceil(task.cell.settings["steps"] * task.cell.settings["batch"] * classes / images)
    return PassCount(stamped + classes, stamped)
