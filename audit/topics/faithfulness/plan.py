"""The cells of deletion and insertion, and of the orders they are held against."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.explanations import explained_methods, explanation_of
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.faithfulness.curves import ORDERS_OF_A_MAP, control_count
from audit.topics.faithfulness.facts import FaithfulnessSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The control orders once, then each method's maps of the clean images.

    Args:
        builder: The plan so far.
        model: The model.
    """
    baselines = builder.add("faithfulness-baselines", "removal", model, builder.explained)
    for method in explained_methods(builder):
        inputs = {"explanation": explanation_of(builder, method.name, model.role), "controls": baselines}
        builder.add("faithfulness", method.name, model, builder.explained, inputs=inputs)


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """Every step of every curve, for one image.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    if task.cell.study == "faithfulness":
        return PassCount(_curve_forwards(ORDERS_OF_A_MAP), 0)
    return PassCount(1 + _curve_forwards(control_count(FaithfulnessSettings().random_orders)), 0)


def _curve_forwards(orders: int) -> int:
    """Two ends and the steps between, of deletion and insertion under each fill."""
    settings = FaithfulnessSettings()
    return 2 * len(settings.fills) * (2 + orders * (settings.steps - 1))
