"""The cell that looks for the training images behind answers."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.metrics.ekfac import require_kronfluence
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.influence import InfluenceConfig

TRACIN, EKFAC = "tracin-last-layer", "ek-fac"
"""The methods, as cells name them."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell over the first images of the audit order, where there are training images.

    Args:
        builder: The plan so far.
        model: The model.

    Raises:
        SetupError: EK-FAC is asked for and kronfluence is not installed.
    """
    config, identity = builder.config.table(InfluenceConfig), builder.identity
    if not config.examples or not identity.train:
        return
    if config.method == "ek-fac":
        require_kronfluence()
    first = builder.explained
    (chunk,) = builder.chunks(min(config.examples, len(first)) or 1, len(first) or 1)
    attacked = builder.planned("robustness", model.role)
    builder.add(
        "influence",
        EKFAC if config.method == "ek-fac" else TRACIN,
        model,
        chunk,
        settings={
            "training": min(config.training, identity.train_examples),
            "of": identity.train,
            "count": config.count,
            "refitted": config.refitted,
        },
        inputs={"robustness": attacked[0]} if attacked else {},
    )


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """The image, its attacked form and its copy, and its part of the training images.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    images, training = max(1, len(task.examples)), task.cell.settings["training"]
    backwards = 8 * training + 4 * images if task.cell.method == EKFAC else 0
    return PassCount(4 + -(-(training + 2 + backwards) // images), -(-backwards // images))


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """The most it can take: the training images cost the same however few images are asked about.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: Not asked.
    """
    most, images = max_passes(task, identity), len(task.examples)
    return PassCount(most.forwards * images, most.backwards * images)
