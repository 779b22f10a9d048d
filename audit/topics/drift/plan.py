"""The cells that measure drift."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.explanations import (
    attribution_passes,
    explained_methods,
    explanation_of,
    explanation_settings,
    mask_inputs,
    of_all_images,
)
from audit.planning.image_parts import add_by_image
from audit.planning.parts import part_inputs
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.drift import DriftConfig
from audit.topics.drift.facts import BETWEEN

AT_CONSTANT_LABEL = ("constant-label", "manipulation")


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each method's maps under attack and under manipulation, while the prediction stays.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if not builder.config.table(DriftConfig).enabled:
        return
    for method in explained_methods(builder):
        inputs = {"explanation": explanation_of(builder, method.name, model.role)}
        for kind in AT_CONSTANT_LABEL:
            add_by_image(
                builder,
                "drift",
                method.name,
                model,
                builder.explained,
                settings=explanation_settings(builder, method).dump() | {"kind": kind},
                threat=builder.threat,
                inputs=inputs | mask_inputs(builder, method, model.role),
            )


def plan_pair(builder: PlanBuilder, first: ModelRef, second: ModelRef) -> None:
    """How each method's maps differ between two models.

    Args:
        builder: The plan so far.
        first: The first model.
        second: The second model.
    """
    if not (builder.config.table(DriftConfig).enabled or builder.config.compression.enabled):
        return
    for method in explained_methods(builder):
        inputs = {
            "first": explanation_of(builder, method.name, first.role),
            "second": explanation_of(builder, method.name, second.role),
        }
        settings = {"kind": BETWEEN}
        builder.add("drift", method.name, second, builder.explained, settings=settings, inputs=inputs)


PGD_PASSES = PassCount(26, 10)
"""Ten steps of PGD that look whether the prediction stays, and six halvings."""
MANIPULATION_PASSES = PassCount(46, 22)
"""Twenty steps that turn the gradient, each with a gradient of a gradient, and look whether the prediction stays."""
NOISE_TRIES = 4
"""Points that the control draws at most."""


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The move, its control, and the map after each; nothing between models, whose maps are there.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return _passes(task, identity, most=True)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What cells like it cost, else the same with maps that cost what they usually do.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What cells like it cost so far.
    """
    return experience.passes_like(task) or of_all_images(_passes(task, identity, most=False), task)


def _passes(task: Task, identity: RunIdentity, *, most: bool) -> PassCount | None:
    kind = task.cell.settings["kind"]
    if kind == BETWEEN or part_inputs(task.cell):
        return PassCount(0, 0)
    explained = attribution_passes(task, identity.shape, most=most)
    if explained is None:
        return None
    moved = PGD_PASSES if kind == "constant-label" else MANIPULATION_PASSES
    return explained + explained + moved + PassCount(NOISE_TRIES, 0)
