"""The cells that measure the quality of attributions."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.metrics.road import SHARES
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
from audit.topics.attribution_quality import AttributionQualityConfig
from audit.topics.attribution_quality.facts import AttributionQualitySettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Each method's maps of the clean images.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if not builder.config.table(AttributionQualityConfig).enabled:
        return
    for method in explained_methods(builder):
        inputs = {"explanation": explanation_of(builder, method.name, model.role)}
        add_by_image(
            builder,
            "attribution-quality",
            method.name,
            model,
            builder.explained,
            settings=explanation_settings(builder, method).dump(),
            inputs=inputs | mask_inputs(builder, method, model.role),
        )


MAPS = 4
"""Maps that infidelity and ROAD judge: the method's, noise, edges, the map blurred."""


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """Noisy and imputed copies for the map and its controls, and a new map for each move, stage and seed.

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
    if part_inputs(task.cell):
        return PassCount()
    explained = attribution_passes(task, identity.shape, most=most)
    if explained is None:
        return None
    settings = AttributionQualitySettings.of(task.cell)
    again = settings.sensitivity_samples + settings.stages + settings.seeds
    judged = MAPS * (settings.infidelity_samples + 1 + len(SHARES))
    return PassCount(judged + again * explained.forwards, again * explained.backwards)
