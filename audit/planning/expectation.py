"""What the cells of a plan are expected to cost, as told apart from the most that they can."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from audit.core.pass_count import PassCount
from audit.core.topic import topic_of
from audit.planning.cost import max_task_passes
from audit.planning.experience import Experience
from audit.planning.plan import MODEL_STUDIES, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.training_cost import time_budget_of, training_passes

Basis = Literal["store", "probe", "usual", "declared", "unlikely"]
"""What an expectation rests on: cells in the store, a probe, what is usual of such models, or the declared bound, which
is exact for what costs the same whatever the model answers; or that the cell is likely not to be wanted."""


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


_NOTHING = TaskCost(PassCount(), 0.0, "unlikely")


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


def expect_costs(
    tasks: Iterable[Task], identity: RunIdentity, experience: Experience, unlikely: frozenset[str] = frozenset()
) -> Expectation:
    """What tasks are expected to cost, each by itself: nothing is computed.

    Args:
        tasks: Tasks of a plan.
        identity: Identities and sizes of the data and the model.
        experience: What is known of the cost of cells.
        unlikely: Keys of cells that are likely not to be wanted (`audit.planning.foreseen`), which cost nothing.
    """
    by_task: dict[str, TaskCost] = {}
    by_study: dict[str, float] = {}
    unknown = 0
    known: dict[str, TaskCost | None] = {}
    for task in tasks:
        if task.cell.key in unlikely:
            cost: TaskCost | None = _NOTHING
        else:
            alike = _but_for_its_images(task)
            if alike not in known:
                known[alike] = expect_cost(task, identity, experience)
            cost = known[alike]
        if cost is None:
            unknown += 1
            continue
        by_task[task.cell.key] = cost
        by_study[task.cell.study] = by_study.get(task.cell.study, 0.0) + cost.seconds
    passes = sum((cost.passes for cost in by_task.values()), PassCount())
    return Expectation(by_task, passes, sum(cost.seconds for cost in by_task.values()), by_study, unknown)


def _but_for_its_images(task: Task) -> str:
    """All of a task that its cost hangs on: cells of other images, as many of them, cost alike."""
    cell = task.cell
    what = [cell.study, cell.method, cell.settings, cell.model, cell.threat, sorted(cell.inputs), task.role]
    return json.dumps([*what, task.examples.split, len(task.examples), task.context], sort_keys=True, default=repr)


def expect_cost(task: Task, identity: RunIdentity, experience: Experience) -> TaskCost | None:
    """What one task is expected to cost.

    What the topic declares as `expected_passes` comes first; then cells like it, in the store or probed, an image at a
    time; then the bound.

    Args:
        task: A task of a plan.
        identity: Identities and sizes of the data and the model.
        experience: What is known of the cost of cells.

    Returns:
        Its cost; None where nothing is known of it.
    """
    source = experience.source(task)
    passes, most = _declared(task, identity, experience), max_task_passes(task, identity, experience.draws)
    basis: Basis = source or ("declared" if passes is None else "usual")
    if passes is None:
        passes = experience.passes_like(task) or most
    if passes is None:
        return None
    passes = _no_more(passes, most)
    seconds = experience.seconds(task, passes)
    if task.cell.study in MODEL_STUDIES:
        seconds = min(seconds, time_budget_of(task))
    return TaskCost(passes, seconds, basis)


def _no_more(passes: PassCount, most: PassCount | None) -> PassCount:
    """What is expected, and no more than can be: cells like it may have paid for a few images what is paid once."""
    if most is None:
        return passes
    return PassCount(min(passes.forwards, most.forwards), min(passes.backwards, most.backwards))


def most_seconds(tasks: Iterable[Task], identity: RunIdentity, experience: Experience) -> float:
    """How long tasks take here at most, by their bounds and no faster than passes alone; without those of no bound.

    Args:
        tasks: Tasks of a plan.
        identity: Identities and sizes of the data and the model.
        experience: What is known of the cost of cells.
    """
    bounds = [(task, max_task_passes(task, identity, experience.draws)) for task in tasks]
    return sum(
        max(experience.throughput.seconds(most), experience.seconds(task, most))
        for task, most in bounds
        if most is not None
    )


def _declared(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What the topic expects, or the recipe of a model that is made; None where neither says."""
    if task.cell.study in MODEL_STUDIES:
        return training_passes(task, most=False)
    topic = topic_of(task.cell.study)
    expected = topic.function("plan", "expected_passes") if topic else None
    passes: PassCount | None = expected(task, identity, experience) if expected else None
    return passes
