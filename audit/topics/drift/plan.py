"""The cells that measure drift."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of, explanation_settings, mask_inputs
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
            builder.add(
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
