"""What the topics about attributions plan with: the methods, their settings, and the reuse of masks."""

from __future__ import annotations

from typing import Any

from audit.config import ExplanationConfig
from audit.core.registry import Method, find
from audit.core.types import PassCount
from audit.explanation.mask_reuse import MASK_SOURCE, MASKS, can_reuse
from audit.planning.builder import PlanBuilder, select_methods
from audit.planning.plan import Task
from audit.planning.settings import ExplanationSettings

BACKGROUND = 16
"""Number of background images of methods that average over references: the first of those explained."""


def explained_methods(builder: PlanBuilder) -> tuple[Method, ...]:
    """The attribution methods that the configuration names, in its order.

    Args:
        builder: The plan so far.
    """
    return select_methods("attribution", builder.config.explanations.methods)


def explanation_settings(builder: PlanBuilder, method: Method) -> ExplanationSettings:
    """The settings of a cell that explains with a method; of one that samples, with the precision of its maps.

    Args:
        builder: The plan so far.
        method: An attribution method.
    """
    config = builder.config.explanations
    settings = ExplanationSettings(
        method=method.settings(_with_precision(method, config)), output=config.output, baseline=config.baseline
    )
    averages = method.facts["references"] and config.baseline is None
    return settings.model_copy(update={"references": BACKGROUND} if averages else {})


def _with_precision(method: Method, config: ExplanationConfig) -> dict[str, Any]:
    """What the configuration sets of a method; a precision of 0 is none."""
    chosen = dict(config.settings.get(method.name) or {})
    if "reached" in method.facts["quality_units"] and not chosen.setdefault("precision", config.precision):
        del chosen["precision"]
    return chosen


def explanation_of(builder: PlanBuilder, method: str, role: str) -> Task:
    """The planned explanation of a model by a method, on clean images.

    Args:
        builder: The plan so far.
        method: Name of the attribution method.
        role: The model's role.

    Raises:
        LookupError: None is planned.
    """
    for task in builder.planned("explanation", role, method):
        if ExplanationSettings.of(task.cell).on == "clean":
            return task
    raise LookupError(f"no explanation by {method} of the {role} model on clean images is planned")


def mask_inputs(builder: PlanBuilder, method: Method, role: str, on: str = "clean") -> dict[str, Task]:
    """The input whose masks a method reuses: the mask source's explanation of the same images, where one is planned.

    Args:
        builder: The plan so far.
        method: An attribution method.
        role: The model's role.
        on: "clean" or "adversarial" images.

    Returns:
        The task by the name of the input; empty where nothing is reused.
    """
    settings = explanation_settings(builder, method)
    if not can_reuse(method, settings.method, settings.baseline):
        return {}
    for task in builder.planned("explanation", role, MASK_SOURCE):
        if ExplanationSettings.of(task.cell).on == on:
            return {MASKS: task}
    return {}


def attribution_passes(task: Task, shape: tuple[int, int, int], *, most: bool) -> PassCount | None:
    """What one image costs the attribution method of a cell, with its prediction; None where it declares nothing.

    Args:
        task: A cell of a study that explains images.
        shape: Of an image, (C, H, W).
        most: The most that it may cost, or what it usually does.
    """
    settings, method = ExplanationSettings.of(task.cell), find("attribution", task.cell.method)
    passes_of = method.max_passes if most else method.expected_passes
    passes = passes_of({**settings.method, "references": settings.references}, shape)
    return None if passes is None else passes + PassCount(1, 0)


def of_all_images(passes: PassCount | None, task: Task) -> PassCount | None:
    """What a whole cell costs.

    Args:
        passes: What one image costs; None where that is not known.
        task: The cell.
    """
    images = len(task.examples)
    return None if passes is None else PassCount(images * passes.forwards, images * passes.backwards)
