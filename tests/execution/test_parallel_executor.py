"""The driver of several workers, over a pool of made-up ones that answer in any order, fail and die."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from audit.core.errors import Interrupted, SetupError
from audit.core.evidence import Evidence
from audit.execution import parallel
from audit.execution.agenda import Agenda, CellOrder
from audit.execution.parallel import ParallelExecutor
from audit.execution.runner import RunCallback, run_plan
from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Membership, Progressed, Ready
from audit.models.batching import ExecutionLayout
from audit.planning.build import build_plan
from audit.planning.plan import AuditPlan, Task
from audit.results.run_results import Cut, RunResults
from audit.storage.store import Store
from tests.execution.test_stopping_early import SUBJECT, MadeExecutor, configured, ran, size, with_model

ROBUST = {"standard": 0.3, "hardened": 0.5}
CONFIG = configured(hardening={"enabled": True})
PLAN = build_plan(CONFIG, SUBJECT)
Answer = Callable[[int, Task], Event]


class MadePool:
    """Workers that finish in an order drawn by chance; `dies` says which cells take their worker along."""

    def __init__(self, size: int, seed: int = 0, dies: Callable[[Task, int], bool] = lambda task, n: False) -> None:
        made = MadeExecutor(ROBUST)
        self.evidence = with_model(made.evidence)
        self.size, self.draws, self.dies = size, random.Random(seed), dies
        self.waiting: dict[int, Job | None] = {}
        self.begun: list[tuple[int, Task]] = []
        self.stopped = self.closed = False
        self.most = 0
        self.starts = 0

    def start(self, worker: int) -> None:
        assert worker not in self.waiting
        self.waiting[worker] = None
        self.starts += 1

    def send(self, worker: int, job: Job) -> None:
        assert worker not in self.waiting, "one cell at a time"
        self.waiting[worker] = job
        self.begun.append((worker, job.task))
        self.most = max(self.most, sum(job is not None for job in self.waiting.values()))

    @property
    def most_together(self) -> int:
        return self.size

    def together(self, idle: Sequence[int], count: int) -> Sequence[int]:
        return idle[:count] if len(idle) >= count else ()

    def send_together(self, workers: Sequence[int], job: Job) -> None:
        for rank, worker in enumerate(workers):
            self.send(worker, replace(job, membership=Membership(rank, len(workers), "tcp://nowhere:1")))

    def end(self, worker: int) -> None:
        del self.waiting[worker]

    def events(self, timeout: float) -> Sequence[Event]:
        if not self.waiting:
            return []
        worker = self.draws.choice(sorted(self.waiting))
        job = self.waiting.pop(worker)
        if job is None:
            return [Ready(worker)]
        tries = sum(task == job.task for _, task in self.begun)
        if self.dies(job.task, tries):
            return [Lost(worker, "it was unplugged")]
        self.waiting[worker] = job
        progress = Progressed(worker, 1, 2)
        del self.waiting[worker]
        helps = job.membership is not None and job.membership.rank > 0
        return [progress, Ready(worker) if helps else self.answer(worker, job.task)]

    def answer(self, worker: int, task: Task) -> Event:
        return Computed(worker, self.evidence(task))

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


def run_on(
    pool: MadePool,
    folder: Path,
    order: CellOrder = "longest first",
    plan: AuditPlan = PLAN,
    cost: Callable[[Task], float] = size,
    **options: object,
) -> RunResults:
    executor = ParallelExecutor(pool, **options)  # type: ignore[arg-type]
    return run_plan(plan, Store(folder), executor, RunCallback(), CONFIG, order=order, cost=cost)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    """What one process gives."""
    executor = MadeExecutor(ROBUST)
    executor.evidence = with_model(executor.evidence)  # type: ignore[method-assign]
    return ran(CONFIG, tmp_path_factory.mktemp("alone"), executor)


@pytest.mark.parametrize("order", ["waves", "least first", "longest first"])
@pytest.mark.parametrize(("workers", "seed"), [(2, 1), (40, 3)])
def test_workers_compute_what_one_process_does_in_whatever_order_they_finish(
    workers: int, seed: int, order: CellOrder, alone: RunResults, tmp_path: Path
) -> None:
    pool = MadePool(workers, seed)
    results = run_on(pool, tmp_path, order)
    assert list(results.evidence) == list(alone.evidence) and results.unneeded == alone.unneeded
    assert len(pool.begun) == len({task.cell.key for _, task in pool.begun}) == len(alone.evidence), "each cell once"
    assert 1 < pool.most <= workers
    assert pool.closed


def test_a_cell_begins_when_its_inputs_are_there_and_not_when_its_wave_does(tmp_path: Path) -> None:
    """With workers enough, a cell of a late wave runs beside one of an early wave."""
    pool = MadePool(40)
    run_on(pool, tmp_path)
    done: set[str] = set()
    waves = [task.wave for _, task in pool.begun]
    assert waves != sorted(waves)
    for _, task in pool.begun:
        assert task.needs <= done | {other.cell.key for _, other in pool.begun}
        done.add(task.cell.key)


def test_the_longest_chain_of_cells_is_begun_first() -> None:
    """Cheap cells come first where a dear one waits for them, and before all the one that every report needs."""
    config = configured(stop="all")

    def cost(task: Task) -> float:
        dear = task.cell.study == "faithfulness" and task.cell.method == "saliency"
        return 100.0 if dear else 5.0 if task.cell.study == "corruption" else 1.0

    agenda = Agenda(build_plan(config, SUBJECT), config, "longest first", cost)
    named: list[Task] = []
    while task := agenda.next_task({}):
        named.append(task)
    assert not any(task.needs for task in named)
    assert named[0].cell.study == "accuracy"
    assert (named[1].cell.study, named[1].cell.method) == ("explanation", "saliency")
    assert named[2].cell.study == "faithfulness-baselines" and named[3].cell.study == "corruption"


def test_the_first_model_begins_before_costs_are_asked_for() -> None:
    """Asking takes a second, in which a worker can train: all else waits for that model."""
    asked: list[Task] = []

    def cost(task: Task) -> float:
        asked.append(task)
        return 1.0

    agenda = Agenda(build_plan(CONFIG, replace(SUBJECT, loaded=None)), CONFIG, "longest first", cost)
    first = agenda.next_task({})
    assert first is not None and first.cell.study == "training" and not asked
    assert agenda.next_task({}) is not None and asked


def test_a_lost_worker_is_replaced_and_its_cell_runs_elsewhere(alone: RunResults, tmp_path: Path) -> None:
    pool = MadePool(3, dies=lambda task, tries: task.cell.study in ("robustness", "training") and tries < 3)
    results = run_on(pool, tmp_path)
    assert list(results.evidence) == list(alone.evidence)
    assert all(e.status != "failed" for e in results.evidence.values())
    lost = sum(
        task.cell.study in ("robustness", "training") for task in alone.plan.tasks if task.cell.key in results.evidence
    )
    assert pool.starts == 3 + 2 * lost


def test_a_cell_that_loses_three_workers_fails_with_the_reason_and_is_not_stored(tmp_path: Path) -> None:
    pool = MadePool(2, dies=lambda task, tries: task.cell.method == "lime")
    results = run_on(pool, tmp_path)
    failed = [e for e in results.evidence.values() if e.status == "failed"]
    assert failed and {e.cell.method for e in failed} == {"lime"}
    assert str(failed[0].reason) == "The worker that computed this was lost 3 times: it was unplugged."
    assert not any(Store(tmp_path).has(e.cell.key) for e in failed)
    assert not results.complete


def test_a_model_that_loses_three_workers_ends_the_run(tmp_path: Path) -> None:
    pool = MadePool(2, dies=lambda task, tries: task.cell.study == "training")
    with pytest.raises(SetupError, match="lost its worker 3 times \\(it was unplugged\\)"):
        run_on(pool, tmp_path)
    assert pool.closed


def test_workers_that_never_start_end_the_run(tmp_path: Path) -> None:
    class Dead(MadePool):
        def events(self, timeout: float) -> Sequence[Event]:
            worker = min(self.waiting)
            del self.waiting[worker]
            return [Lost(worker, "its process ended with code 1")]

    pool = Dead(2)
    with pytest.raises(SetupError, match="No worker could be started: its process ended with code 1"):
        run_on(pool, tmp_path)
    assert pool.closed


def test_what_a_worker_refuses_ends_the_run(tmp_path: Path) -> None:
    class Refusing(MadePool):
        def events(self, timeout: float) -> Sequence[Event]:
            return [Faulted(0, SetupError("The worker on host is refused."))]

    pool = Refusing(2)
    with pytest.raises(SetupError, match="is refused"):
        run_on(pool, tmp_path)
    assert pool.closed


def test_nothing_is_started_where_the_store_has_it_all(alone: RunResults, tmp_path: Path) -> None:
    run_on(MadePool(2), tmp_path)
    again = MadePool(2)
    assert list(run_on(again, tmp_path).evidence) == list(alone.evidence)
    assert again.starts == 0


def test_the_layout_of_each_model_is_chosen_once_and_sent_with_every_cell(tmp_path: Path) -> None:
    asked: list[str] = []
    sent: list[Job] = []

    class Watched(MadePool):
        def send(self, worker: int, job: Job) -> None:
            sent.append(job)
            super().send(worker, job)

    def layouts(identity: str) -> dict[str, ExecutionLayout]:
        asked.append(identity)
        return {identity: ExecutionLayout(True, 8)}

    run_on(Watched(3), tmp_path, layouts=layouts)
    models = {job.task.cell.model for job in sent} - {""}
    assert sorted(asked) == sorted(models) and len(models) == 2
    assert all(job.task.cell.model in job.layouts for job in sent if job.task.cell.model)


@pytest.mark.parametrize("why", ["user", "time"])
def test_a_stop_takes_in_what_finishes_and_has_the_rest_saved(
    why: Cut, alone: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C lets cells finish within a grace; the end of the time does not."""
    monkeypatch.setattr(parallel, "SAVE_SECONDS", 0.2)

    class Slow(MadePool):
        saved = 0

        def answer(self, worker: int, task: Task) -> Event:
            self.saved += self.stopped
            return Faulted(worker, Interrupted("Saved.")) if self.stopped else super().answer(worker, task)

    pool = Slow(4)
    cut = run_plan(
        PLAN,
        Store(tmp_path),
        ParallelExecutor(pool, stopping=lambda: why if len(pool.begun) >= 12 else ""),
        RunCallback(),
        CONFIG,
        order="longest first",
        cost=size,
        cut_by=lambda: why,
    )
    assert cut.cut_by == why and pool.closed and pool.stopped == (why == "time")
    assert len(cut.evidence) == len(pool.begun) - pool.saved and (pool.saved > 0) == (why == "time")
    whole = run_on(MadePool(4), tmp_path)
    assert list(whole.evidence) == list(alone.evidence)


def test_evidence_of_a_cell_that_failed_is_not_offered_to_others(tmp_path: Path) -> None:
    class Failing(MadePool):
        def answer(self, worker: int, task: Task) -> Event:
            if task.cell.study == "accuracy":
                return Computed(worker, Evidence(task.cell, "failed", reason="Made up."))
            return super().answer(worker, task)

    results = run_on(Failing(3), tmp_path)
    assert not results.complete and not results.unfinished


@pytest.mark.parametrize("stop", ["decides", "all"])
def test_a_worker_gets_what_comes_next_whatever_its_evidence_says_before_that_is_stored(
    stop: str, tmp_path: Path
) -> None:
    """And otherwise waits, so that the longest chain is not kept waiting by a cell that came too soon."""
    config = configured(hardening={"enabled": True}, stop=stop)
    plan = build_plan(config, SUBJECT)
    agenda, evidence = Agenda(plan, config, "longest first", size), dict[str, Evidence]()
    twin = Agenda(plan, config, "longest first", size)
    made = with_model(MadeExecutor(ROBUST).evidence)
    early, task = 0, agenda.next_task(evidence)
    while task is not None:
        assert twin.next_task(evidence) == task
        following = agenda.next_task(evidence, [task])
        early += following is not None
        evidence[task.cell.key] = made(task)
        agenda.done(task)
        twin.done(task)
        task = following or agenda.next_task(evidence)
    assert twin.next_task(evidence) is None and 0.8 * len(evidence) < early < len(evidence)
    assert Agenda(plan, config, "least first", size).next_task({}, plan.tasks[:1]) is None
