"""The cells that describe images, and those that group what a model finds alike."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.parts import part_input
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.slices import SlicesConfig
from audit.topics.slices.facts import ATTRIBUTES, CLUSTERS


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """What is said of each image, part by part, then the clusters of all of them.

    Each part reads the accuracy of its images, to keep pictures of those that are classified wrong.

    Args:
        builder: The plan so far.
        model: The model.
    """
    chunks = builder.chunks(builder.config.table(SlicesConfig).examples, 4 * builder.config.chunk)
    if not chunks or not builder.identity.labelled:
        return
    settings = {"columns": builder.identity.cohorts} if builder.identity.cohorts else {}
    measured = builder.planned("accuracy", model.role)
    parts = [
        builder.add(
            "slices",
            ATTRIBUTES,
            model,
            chunk,
            settings=settings,
            inputs={f"accuracy {task.examples.start}": task for task in measured if _overlap(task.examples, chunk)},
        )
        for chunk in chunks
    ]
    inputs = {part_input(task.examples.start): task for task in parts}
    builder.add("slices", CLUSTERS, model, Slice("test", 0, chunks[-1].stop), inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """One forward an image where its features are read.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(1 if task.cell.method == ATTRIBUTES else 0, 0)


def _overlap(first: Slice, second: Slice) -> bool:
    return first.start < second.stop and second.start < first.stop
