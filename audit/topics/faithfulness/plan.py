"""The cells of deletion and insertion, and of the orders they are held against."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of
from audit.planning.image_parts import add_by_image
from audit.planning.parts import part_inputs, whole_study
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.faithfulness import FaithfulnessConfig
from audit.topics.faithfulness.curves import control_count
from audit.topics.faithfulness.facts import FaithfulnessSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The control orders once, then each method's maps of the clean images.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.table(FaithfulnessConfig)
    settings = FaithfulnessSettings(**config.model_dump()).dump()
    baselines = add_by_image(builder, "faithfulness-baselines", "removal", model, builder.explained, settings=settings)
    for method in explained_methods(builder):
        inputs = {"explanation": explanation_of(builder, method.name, model.role), "controls": baselines}
        add_by_image(builder, "faithfulness", method.name, model, builder.explained, settings=settings, inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """The steps of every curve for one image, and with the controls the two ends under each fill, which all share.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    if part_inputs(task.cell):
        return PassCount()
    settings = FaithfulnessSettings.of(task.cell)
    between = 2 * len(settings.fills) * (settings.steps - 1)
    if whole_study(task.cell.study) == "faithfulness":
        return PassCount((2 if settings.blurred else 1) * between, 0)
    return PassCount(1 + 2 * len(settings.fills) + control_count(settings.random_orders) * between, 0)
