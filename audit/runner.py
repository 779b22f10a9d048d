"""Run what the store lacks, wave after wave; everything found is kept at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from audit.dossier import Dossier
from audit.errors import EnvironmentFault
from audit.evidence import Evidence
from audit.plan import AuditPlan, Task
from audit.store import Store


class Engine(Protocol):
    """Where cells are computed: in this process, or on other machines."""

    def compute(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Evidence]]:
        """Evidence for each task, in any order, as it comes."""
        ...


class Observer(Protocol):
    """Who watches a run."""

    def begin(self, total: int, stored: int) -> None:
        """A run of `total` tasks begins, `stored` of which are found in the store."""
        ...

    def found(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """A task's evidence is there; `stored` when it was before."""
        ...


def run_plan(plan: AuditPlan, store: Store, engine: Engine, observer: Observer) -> Dossier:
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
            evidence[task.cell.key] = new if new.status == "failed" else _kept(store, new)
            observer.found(task, new, stored=False)
    return Dossier(plan, evidence)


def _kept(store: Store, evidence: Evidence) -> Evidence:
    """The evidence as every later run will read it, so that a resumed run cannot differ from this one."""
    store.put(evidence)
    store.clear_scratch(evidence.cell.key)
    kept = store.get(evidence.cell.key)
    if kept is None:
        raise EnvironmentFault(f"Evidence just written to {store.root} cannot be read back; check the disk.")
    return kept
