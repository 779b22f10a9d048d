"""Run the tasks of a plan that are wanted and that the store lacks; evidence is stored as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from audit.config import RunConfig
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.execution.agenda import Agenda, CellOrder
from audit.execution.saving import Saving
from audit.planning.plan import AuditPlan, Task
from audit.results.run_results import Cut, RunResults
from audit.results.stopping import unneeded_tasks
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

    def progress(self, task: Task, done: int, total: int) -> None:
        """Called while a task is computed.

        Args:
            task: The task.
            done: Its steps done.
            total: Its steps in all.
        """

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """Called when the evidence of a task is there, which may be about to be written.

        Args:
            task: The task.
            evidence: Its evidence.
            stored: Whether it was in the store before the run.
        """


class NextTask(Protocol):
    """Names the cells of a run, each once."""

    def __call__(self, finished: Task | None = None, *, shortest: bool = False) -> Task | None:
        """A task that needs nothing of one under way.

        Args:
            finished: A task whose evidence is there and not taken in yet: what is then named comes next whatever it
                says.
            shortest: Whether to name the task that would come last, where the longest come first.

        Returns:
            The task; None where there is none before another is done, and at the end.
        """
        ...


class Executor(Protocol):
    """Where cells are computed: in this process, in others, or on other machines."""

    def compute(self, next_task: NextTask) -> Generator[tuple[Task, Evidence], None, None]:
        """Compute tasks until there are none.

        Args:
            next_task: Names the tasks.

        Yields:
            Each task with its evidence, in any order, as it comes. What depends on it is there when the next is asked.

        Raises:
            Interrupted: The run was stopped.
        """
        ...


def run_plan(
    plan: AuditPlan,
    store: Store,
    executor: Executor,
    callback: RunCallback,
    config: RunConfig,
    *,
    order: CellOrder = "waves",
    cost: Callable[[Task], float] = lambda task: 0.0,
    workers: int = 1,
    cut_by: Callable[[], Cut] = lambda: "user",
) -> RunResults:
    """Compute every task of a plan that is wanted and whose evidence the store lacks.

    Whether a study takes a further step is asked of the evidence of its steps so far alone, whatever the store holds
    besides, so that a run that was cut or resumed ends as one that ran through. Failed evidence is returned but not
    stored: the next run tries again. An executor that raises `Interrupted` ends the run; what is there is returned.

    Args:
        plan: The plan.
        store: Where evidence is read and kept.
        executor: Computes the tasks.
        callback: What to call on the way.
        config: The configuration of the run, whose criteria say when a study is decided.
        order: In which order tasks begin. No answer depends on it.
        cost: What a task costs, in any unit; infinite where that is not known.
        workers: How many compute.
        cut_by: Asked once the run was interrupted, what did it.

    Returns:
        The plan with the evidence of its tasks, in plan order.
    """
    callback.begin(len(plan.tasks), sum(store.has(task.cell.key) for task in plan.tasks))
    evidence: dict[str, Evidence] = {}
    agenda, cut = Agenda(plan, config, order, cost, workers), False

    def take_in(*, wait_for_one: bool = False) -> None:
        for task, stored in saving.finished(wait_for_one=wait_for_one):
            evidence[task.cell.key] = stored
            agenda.done(task)

    def named(finished: Task | None, shortest: bool) -> Task | None:
        take_in()
        coming = [*saving.under_way, *([finished] if finished else [])]
        task = agenda.next_task(evidence, coming, shortest=shortest)
        while task is None and finished is None and saving.under_way:
            take_in(wait_for_one=True)
            task = agenda.next_task(evidence, saving.under_way, shortest=shortest)
        return task

    def next_task(finished: Task | None = None, *, shortest: bool = False) -> Task | None:
        while task := named(finished, shortest):
            stored = store.get(task.cell.key)
            if stored is None:
                return task
            evidence[task.cell.key] = stored
            agenda.done(task)
            callback.finished(task, stored, stored=True)
        return None

    with Saving(store) as saving:
        try:
            with closing(executor.compute(next_task)) as cells:
                for task, computed in cells:
                    if computed.status == "failed":
                        evidence[task.cell.key] = computed
                        agenda.done(task)
                    else:
                        saving.begin(task, computed)
                    callback.finished(task, computed, stored=False)
        except Interrupted:
            cut = True
        while saving.under_way:
            take_in(wait_for_one=True)
    in_order = {t.cell.key: evidence[t.cell.key] for t in plan.tasks if t.cell.key in evidence}
    results = RunResults(plan, in_order, cut_by=(cut_by() or "user") if cut else "")
    return replace(results, unneeded=unneeded_tasks(results, config))
