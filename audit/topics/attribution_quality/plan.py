"""The cells that measure the quality of attributions."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of, explanation_settings, mask_inputs
from audit.topics.attribution_quality import AttributionQualityConfig


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
