"""Run what the store lacks, wave after wave; everything found is kept at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.planning.plan import AuditPlan, Task
from audit.results.run_results import RunResults
from audit.storage.store import Store


class Executor(Protocol):
    """Where cells are computed: in this process, or on other machines."""

    def compute(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Evidence]]:
        """Evidence for each task, in any order, as it comes."""
        ...


class RunCallback(Protocol):
    """Who watches a run."""

    def begin(self, total: int, stored: int) -> None:
        """A run of `total` tasks begins, `stored` of which are found in the store."""
        ...

    def found(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """A task's evidence is there; `stored` when it was before."""
        ...


def run_plan(plan: AuditPlan, store: Store, engine: Executor, observer: RunCallback) -> RunResults:
    """The evidence of every task of `plan`. Failed evidence is returned but not kept: the next run tries again."""
    observer.begin(len(plan.tasks), sum(store.has(task.cell.key) for task in plan.tasks))
    evidence: dict[str, Evidence] = {}
    for wave in plan.waves():
        missing = []
        for task in wave:
            known = store.get(task.cell.key)
            if known is None:
                missing.append(task)
                continue
            evidence[task.cell.key] = known
            observer.found(task, known, stored=True)
        for task, new in engine.compute(missing):
            evidence[task.cell.key] = new if new.status == "failed" else _store_and_reload(store, new)
            observer.found(task, new, stored=False)
    return RunResults(plan, evidence)


def _store_and_reload(store: Store, evidence: Evidence) -> Evidence:
    """The evidence as every later run will read it, so that a resumed run cannot differ from this one."""
    store.put(evidence)
    store.clear_scratch(evidence.cell.key)
    kept = store.get(evidence.cell.key)
    if kept is None:
        raise SetupError(f"Evidence just written to {store.root} cannot be read back; check the disk.")
    return kept
