"""The cells of attributions, of clean and of adversarial images."""

from __future__ import annotations

from audit.core.registry import Method
from audit.core.types import PassCount
from audit.explanation.mask_reuse import MASK_SOURCE, MASKS, evaluates_every_mask
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.explanations import (
    attribution_passes,
    explained_methods,
    explanation_settings,
    mask_inputs,
    of_all_images,
)
from audit.planning.image_parts import add_by_image
from audit.planning.parts import part_inputs
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.settings import ExplanationSettings
from audit.topics.explanations.attacked import ADVERSARIAL_IN_FULL


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Maps of the clean images, and of the adversarial ones that the report shows; the mask source is planned first.

    Of more clean images than the configuration wants in a cell, in parts; the adversarial ones are few.

    Args:
        builder: The plan so far.
        model: The model.
    """
    methods, first = explained_methods(builder), len(builder.tasks)
    attacked = builder.planned("robustness", model.role)[0]
    shown = Slice(builder.explained.split, 0, min(builder.explained.stop, ADVERSARIAL_IN_FULL))
    for method in sorted(methods, key=lambda method: method.name != MASK_SOURCE):
        _explain(builder, method, model, "clean", builder.explained, {})
        _explain(builder, method, model, "adversarial", shown, {"robustness": attacked})
    order = [method.name for method in methods]
    builder.tasks[first:] = sorted(builder.tasks[first:], key=lambda task: order.index(task.cell.method))


def _explain(
    builder: PlanBuilder, method: Method, model: ModelRef, on: str, examples: Slice, inputs: dict[str, Task]
) -> None:
    inputs = inputs | mask_inputs(builder, method, model.role, on)
    settings = explanation_settings(builder, method).model_copy(update={"on": on})
    add = add_by_image if on == "clean" else PlanBuilder.add
    add(
        builder,
        "explanation",
        method.name,
        model,
        examples,
        settings=settings.dump(),
        version=method.full_version,
        inputs=inputs,
        context={MASKS: ExplanationSettings.of(inputs[MASKS].cell).method} if MASKS in inputs else {},
    )


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The prediction, and what the method declares; none where it reuses the masks of one that evaluates all, unless
    that one fails.

    An image on which a gradient method finds only zeros costs a few passes more.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount() if part_inputs(task.cell) else _passes(task, identity, most=True)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What cells like it cost, else the same with maps that cost what they usually do.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What cells like it cost so far.
    """
    return experience.passes_like(task) or of_all_images(_passes(task, identity, most=False), task)


def _passes(task: Task, identity: RunIdentity, *, most: bool) -> PassCount | None:
    mask_source = task.context.get(MASKS)
    if mask_source is not None and evaluates_every_mask(mask_source, identity.shape):
        return PassCount(0, 0)
    return attribution_passes(task, identity.shape, most=most)
