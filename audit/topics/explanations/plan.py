"""The cells of attributions, of clean and of adversarial images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.core.registry import Method, find
from audit.core.types import PassCount
from audit.explanation.mask_reuse import MASK_SOURCE
from audit.explanation.shapley_exact import MOST_SEGMENTS
from audit.masking.segmentation import target_count
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import MASKS, explained_methods, explanation_settings, mask_inputs
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.planning.settings import ExplanationSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Maps of the clean and of the adversarial images by every method; the mask source is planned first."""
    methods, begun = explained_methods(builder), len(builder.tasks)
    attacked = builder.planned("robustness", model.role)[0]
    for method in sorted(methods, key=lambda method: method.name != MASK_SOURCE):
        _explain(builder, method, model, "clean", {})
        _explain(builder, method, model, "adversarial", {"robustness": attacked})
    order = [method.name for method in methods]
    builder.tasks[begun:] = sorted(builder.tasks[begun:], key=lambda task: order.index(task.cell.method))


def _explain(builder: PlanBuilder, method: Method, model: ModelRef, on: str, inputs: dict[str, Task]) -> None:
    inputs = inputs | mask_inputs(builder, method, model.role, on)
    builder.add(
        "explanation",
        method.name,
        model,
        builder.explained,
        settings=explanation_settings(builder, method).model_copy(update={"on": on}).dump(),
        version=method.full_version,
        inputs=inputs,
        context={MASKS: ExplanationSettings.of(inputs[MASKS].cell).method} if MASKS in inputs else {},
    )


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """By the number of samples or steps that the method's settings name; those of one pass name neither. Shapley
    values of a large image that is too plain for the usual number of segments may cost more. Who borrows of a method
    that asks every mask asks none, unless that one fails."""
    method = find("attribution", task.cell.method)
    settings = ExplanationSettings.of(task.cell).method
    asked = settings.get("samples") or settings.get("max_steps")
    wanted, most = target_count(*identity.shape[1:])
    lender: Mapping[str, Any] = task.context.get(MASKS, {})
    if lender.get("algorithm") in ("auto", "exact") and most <= MOST_SEGMENTS:
        return PassCount(0, 0)
    if "algorithm" in settings and wanted <= MOST_SEGMENTS:  # enumerated, however many samples were asked
        asked = max(int(asked or 0), 2 ** min(MOST_SEGMENTS, most))
    if asked is None and method.facts["needs"] == "scores":
        return None
    passes = int(asked or 1) + 3  # the prediction, and the two ends
    return PassCount(passes, 0 if method.facts["needs"] == "scores" else passes)
