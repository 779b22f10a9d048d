"""What the cells of a plan are expected to cost, as told apart from the most that they can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from audit.core.pass_count import PassCount
from audit.core.topic import topic_of
from audit.planning.cost import max_task_passes
from audit.planning.experience import CellCost, Experience
from audit.planning.plan import MODEL_STUDIES, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.training_cost import training_passes

_ENOUGH = 0.5
"""Of the examples of a cell: so many in cells like it tell its cost by themselves."""
Basis = Literal["store", "probe", "usual", "declared"]
"""What an expectation rests on: cells in the store, a probe, what is usual of such models, or the declared bound, which
is exact for what costs the same whatever the model answers."""


@dataclass(frozen=True)
class TaskCost:
    """What one cell is expected to cost.

    Attributes:
        passes: Examples forwarded and back-propagated.
        seconds: How long it takes here.
        basis: What that rests on.
    """

    passes: PassCount
    seconds: float
    basis: Basis


@dataclass(frozen=True)
class Expectation:
    """What some cells are expected to cost.

    Attributes:
        by_task: By the key of the cell, for the cells whose cost can be told.
        passes: Of all those.
        seconds: Of all those.
        by_study: Seconds by study.
        unknown: Number of cells whose cost cannot be told.
    """

    by_task: Mapping[str, TaskCost]
    passes: PassCount
    seconds: float
    by_study: Mapping[str, float]
    unknown: int

    @property
    def bases(self) -> Mapping[str, int]:
        """Number of cells by what their cost rests on."""
        return Counter(cost.basis for cost in self.by_task.values())


def expect_costs(tasks: Iterable[Task], identity: RunIdentity, experience: Experience) -> Expectation:
    """What tasks are expected to cost, each by itself: nothing is computed.

    Args:
        tasks: Tasks of a plan.
        identity: Identities and sizes of the data and the model.
        experience: What is known of the cost of cells.
    """
    by_task: dict[str, TaskCost] = {}
    by_study: Counter[str] = Counter()
    unknown = 0
    for task in tasks:
        cost = expect_cost(task, identity, experience)
        if cost is None:
            unknown += 1
            continue
        by_task[task.cell.key] = cost
        by_study[task.cell.study] += cost.seconds  # type: ignore[assignment]
    passes = sum((cost.passes for cost in by_task.values()), PassCount())
    return Expectation(by_task, passes, sum(cost.seconds for cost in by_task.values()), dict(by_study), unknown)


def expect_cost(task: Task, identity: RunIdentity, experience: Experience) -> TaskCost | None:
    """What one task is expected to cost.

    Cells like it tell, an image at a time, where they had half as many examples or more; else what the topic declares
    as `expected_passes`; else the cells like it, however few; else the bound.

    Args:
        task: A task of a plan.
        identity: Identities and sizes of the data and the model.
        experience: What is known of the cost of cells.

    Returns:
        Its cost; None where nothing is known of it.
    """
    alike = experience.like(task)
    seen = sum(cost.examples for cost in alike)
    passes = None if alike and seen >= _ENOUGH * len(task.examples) else _declared(task, identity, experience)
    basis: Basis = alike[0].source if alike else "declared" if passes is None else "usual"
    if passes is None:
        passes = _scaled(alike, len(task.examples)) if alike else max_task_passes(task, identity)
    if passes is None:
        return None
    bare = experience.throughput.seconds(passes)
    seconds = bare * experience.pace(task) if bare else experience.seconds_an_example(task) * _length(task)
    return TaskCost(passes, seconds, basis)


def _declared(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What the topic expects, or the recipe of a model that is made; None where neither says."""
    if task.cell.study in MODEL_STUDIES:
        return training_passes(task, most=False)
    topic = topic_of(task.cell.study)
    expected = topic.function("plan", "expected_passes") if topic else None
    passes: PassCount | None = expected(task, identity, experience) if expected else None
    return passes


def _scaled(alike: Iterable[CellCost], examples: int) -> PassCount:
    """The passes of cells like it, for another number of examples."""
    costs = list(alike)
    share = examples / max(1, sum(cost.examples for cost in costs))
    return PassCount(
        round(share * sum(cost.passes.forwards for cost in costs)),
        round(share * sum(cost.passes.backwards for cost in costs)),
    )


def _length(task: Task) -> int:
    return max(1, len(task.examples))
