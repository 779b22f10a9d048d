"""The cells that measure the quality of attributions."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.metrics.road import SHARES
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import (
    attribution_passes,
    explained_methods,
    explanation_of,
    explanation_settings,
    mask_inputs,
)
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
        builder.add(
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
    explained = attribution_passes(task, identity.shape)
    if explained is None:
        return None
    settings = AttributionQualitySettings.of(task.cell)
    again = settings.sensitivity_samples + settings.stages + settings.seeds
    judged = MAPS * (settings.infidelity_samples + 1 + len(SHARES))
    return PassCount(judged + again * explained.forwards, again * explained.backwards)
