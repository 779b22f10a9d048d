"""What the cells of a plan cost at most, in passes through the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit.core.topic import topic_of
from audit.core.types import PassCount
from audit.planning.plan import MODEL_STUDIES, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.training_cost import training_passes


@dataclass(frozen=True)
class CostEstimate:
    """An upper bound on the cost of some cells.

    Attributes:
        passes: The most examples forwarded and back-propagated, by the cells whose cost is known.
        by_study: The same by study.
        unknown: Number of cells whose cost is not known before: it depends on what they measure.
    """

    passes: PassCount
    by_study: Mapping[str, PassCount]
    unknown: int


def estimate_cost(tasks: Iterable[Task], identity: RunIdentity, draws: int = 1) -> CostEstimate:
    """The most that tasks cost.

    Args:
        tasks: Tasks of a plan.
        identity: Identities and sizes of the data and the model.
        draws: See `max_task_passes`.
    """
    by_study: dict[str, PassCount] = {}
    unknown = 0
    for task in tasks:
        passes = max_task_passes(task, identity, draws)
        if passes is None:
            unknown += 1
        else:
            by_study[task.cell.study] = by_study.get(task.cell.study, PassCount(0, 0)) + passes
    return CostEstimate(sum(by_study.values(), PassCount(0, 0)), by_study, unknown)


def max_task_passes(task: Task, identity: RunIdentity, draws: int = 1) -> PassCount | None:
    """The most that one cell costs, as its topic declares.

    Args:
        task: A task of a plan.
        identity: Identities and sizes of the data and the model.
        draws: Forwards that each logit is the mean of where attacks ask it; above 1 for a model that answers at random.

    Returns:
        The passes of the whole cell; None where they are not known before.
    """
    if task.cell.study in MODEL_STUDIES:
        return training_passes(task, most=True)
    topic = topic_of(task.cell.study)
    declared = topic.function("plan", "max_passes") if topic else None
    each: PassCount | None = declared(task, identity) if declared else None
    times = len(task.examples) * (draws if topic and topic.averaged else 1)
    return None if each is None else PassCount(each.forwards * times, each.backwards * times)


def cost_keys(study: str) -> str:
    """The configuration keys that the cost of a study depends on; empty where none is declared.

    Args:
        study: Name of the study.
    """
    topic = topic_of(study)
    return topic.studies[study] if topic else ""
