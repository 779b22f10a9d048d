"""The cells of data health."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.data_health import DataHealthConfig


def plan_run(builder: PlanBuilder) -> None:
    """One cell that asks no model, and one that reads the first model's predictions on test images.

    Args:
        builder: The plan so far.
    """
    identity = builder.identity
    if not builder.config.table(DataHealthConfig).enabled:
        return
    nowhere, no_model = Slice("test", 0, 0), ModelRef("standard", "")
    settings = {
        "test": identity.test,
        "train": identity.train,
        "classes": list(identity.classes),
        "labelled": identity.labelled,
        "pictures": builder.config.report.images,
    }
    builder.add("data-health", "survey", no_model, nowhere, settings=settings)
    clean = builder.planned("accuracy", "standard")
    if clean and identity.labelled:
        inputs = {f"clean {task.examples.start}": task for task in clean}
        builder.add("label-errors", "noise-channel", no_model, nowhere, settings=settings, inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """None: the images are read, and the model's predictions are there already.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(0, 0)
