"""Run the tasks of a plan that the store lacks, wave after wave; evidence is stored as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.planning.plan import AuditPlan, Task
from audit.results.run_results import RunResults
from audit.storage.store import Store


class RunCallback:
    """What a run calls on its way; every method does nothing until a subclass overrides it."""

    def begin(self, total: int, stored: int) -> None:
        """Called once, before the first task.

        Args:
            total: The number of tasks.
            stored: How many of them have evidence in the store.
        """

    def starting(self, task: Task) -> None:
        """Called before a task is computed.

        Args:
            task: The task.
        """

    def progress(self, done: int, total: int) -> None:
        """Called while a task is computed.

        Args:
            done: Its steps done.
            total: Its steps in all.
        """

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """Called when the evidence of a task is there.

        Args:
            task: The task.
            evidence: Its evidence.
            stored: Whether it was in the store before the run.
        """


class Executor(Protocol):
    """Where cells are computed: in this process, or on other machines."""

    def compute(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Evidence]]:
        """Compute tasks.

        Args:
            tasks: Tasks that need nothing of one another.

        Yields:
            Each task with its evidence, in any order, as it comes.
        """
        ...


def run_plan(plan: AuditPlan, store: Store, executor: Executor, callback: RunCallback) -> RunResults:
    """Compute every task of a plan whose evidence the store lacks.

    Failed evidence is returned but not stored: the next run tries again.

    Args:
        plan: The plan.
        store: Where evidence is read and kept.
        executor: Computes the tasks.
        callback: What to call on the way.

    Returns:
        The plan with the evidence of its tasks.
    """
    callback.begin(len(plan.tasks), sum(store.has(task.cell.key) for task in plan.tasks))
    evidence: dict[str, Evidence] = {}
    for wave in plan.waves():
        missing = []
        for task in wave:
            stored = store.get(task.cell.key)
            if stored is None:
                missing.append(task)
                continue
            evidence[task.cell.key] = stored
            callback.finished(task, stored, stored=True)
        for task, computed in executor.compute(missing):
            evidence[task.cell.key] = computed if computed.status == "failed" else _store_and_reload(store, computed)
            callback.finished(task, computed, stored=False)
    return RunResults(plan, evidence)


def _store_and_reload(store: Store, evidence: Evidence) -> Evidence:
    """The evidence as every later run will read it, so that a resumed run cannot differ from this one."""
    store.put(evidence)
    store.clear_scratch(evidence.cell.key)
    stored = store.get(evidence.cell.key)
    if stored is None:
        raise SetupError(f"Evidence just written to {store.root} cannot be read back; check the disk.")
    return stored
