"""Cells that several workers compute together, over a pool of made-up workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from audit.core.errors import SetupError
from audit.execution import shared_cell
from audit.execution.workers import Event, Faulted, Job, Lost, Ready
from audit.planning.build import build_plan
from audit.planning.plan import Task
from audit.training.distributed import ExchangeFailed
from tests.execution.test_parallel_executor import MadePool, run_on
from tests.execution.test_stopping_early import SUBJECT, configured

ALONE = build_plan(configured(hardening={"enabled": True}), SUBJECT)
SHARED = build_plan(configured(hardening={"enabled": True, "nproc": 4, "shares": 4}), SUBJECT)
(PRUNING,) = (
    task
    for task in build_plan(configured(compression={"enabled": True}), SUBJECT).tasks
    if task.cell.study == "compression"
)
GONE = ExchangeFailed("A process of this training ended or lost its connection (closed by peer).")


def members_of(pool: MadePool, study: str = "training") -> list[int]:
    """The workers that were given a training, one attempt after another."""
    return [worker for worker, task in pool.begun if task.cell.study == study]


@pytest.mark.parametrize(("workers", "seed"), [(4, 0), (5, 1), (30, 2)])
def test_a_training_gets_as_many_workers_as_share_it_and_all_else_gets_one(
    workers: int, seed: int, tmp_path: Path
) -> None:
    pool = MadePool(workers, seed)
    results = run_on(pool, tmp_path, plan=SHARED)
    assert len(set(members_of(pool))) == len(members_of(pool)) == 4
    assert len(pool.begun) == len(results.evidence) + 3
    assert [task.cell.study for task in ALONE.tasks] == [task.cell.study for task in SHARED.tasks]
    assert results.complete and pool.closed


class Ordered(MadePool):
    """Cells take as many turns as `turns` says, all at once; every turn the state of the workers is noted."""

    def __init__(self, size: int, turns: dict[str, int]) -> None:
        super().__init__(size)
        self.turns, self.left = turns, dict.fromkeys(range(size), 0)
        self.seen: list[list[str]] = []

    def send(self, worker: int, job: Job) -> None:
        super().send(worker, job)
        self.left[worker] = self.turns.get(job.task.cell.study, 1)

    def events(self, timeout: float) -> Sequence[Event]:
        self.seen.append([job.task.cell.study if job else "" for _, job in sorted(self.waiting.items())])
        events: list[Event] = []
        for worker, job in sorted(self.waiting.items()):
            self.left[worker] -= 1
            if self.left[worker] <= 0:
                del self.waiting[worker]
                helps = job is None or (job.membership is not None and job.membership.rank > 0)
                events.append(Ready(worker) if helps or job is None else self.answer(worker, job.task))
        return events


def test_workers_are_kept_for_a_shared_training_until_they_are_enough(tmp_path: Path) -> None:
    """The accuracy that every report needs comes first and takes five turns; the training is next, and not all else."""
    pool = Ordered(4, {"accuracy": 5})
    run_on(pool, tmp_path, plan=SHARED)
    begun = [task.cell.study for _, task in pool.begun]
    assert begun[:5] == ["accuracy", *["training"] * 4]
    assert pool.seen[1:6] == [["accuracy"]] * 5


def test_other_cells_go_on_while_a_shared_training_waits_for_another_training(tmp_path: Path) -> None:
    """A compression holds one of four workers for forty turns, and the hardening wants all four."""
    pool = Ordered(4, {"compression": 40, "accuracy": 3})

    def cost(task: Task) -> float:
        return 1000.0 if task.cell.study == "compression" else 1.0

    results = run_on(pool, tmp_path, plan=replace(SHARED, tasks=(*SHARED.tasks, PRUNING)), cost=cost)
    during = [row for row in pool.seen if "compression" in row]
    assert sum(len(row) == 4 for row in during[1:]) > 3, "the three others were at work"
    assert not any("training" in row for row in during)
    assert len(members_of(pool)) == 4 and results.complete


def test_a_lost_member_ends_the_attempt_and_all_begin_again(tmp_path: Path) -> None:
    """The others notice in one order or another; however many are gone with it, that is one loss."""

    class Losing(MadePool):
        def answer(self, worker: int, task: Task) -> Event:
            attempts = len(members_of(self)) // 4
            if task.cell.study == "training" and attempts < 3:
                return Faulted(worker, GONE)
            return super().answer(worker, task)

    pool = Losing(5, dies=lambda task, tries: task.cell.study == "training" and tries == 8)
    results = run_on(pool, tmp_path, plan=SHARED)
    assert results.complete and len(members_of(pool)) == 12
    assert pool.starts > 5


def test_three_attempts_lost_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = MadePool(4, dies=lambda task, tries: task.cell.study == "training")
    with pytest.raises(SetupError, match=r"lost its worker 3 times \(it was unplugged\)"):
        run_on(pool, tmp_path, plan=SHARED)
    assert len(members_of(pool)) == 12 and pool.starts == 4 + 12
    assert sum("was lost while it computed training" in record.message for record in caplog.records) == 3


def test_members_that_do_not_notice_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of four hang, as they do on cards when another loses its power."""
    monkeypatch.setattr(shared_cell, "NOTICE_SECONDS", 0.0)

    class Hanging(MadePool):
        def __init__(self) -> None:
            super().__init__(4)
            self.ended: list[int] = []

        def events(self, timeout: float) -> Sequence[Event]:
            first_attempt = len(members_of(self)) == 4 and not self.ended
            jobs = {worker: job for worker, job in self.waiting.items() if job and job.task.cell.study == "training"}
            if first_attempt and len(jobs) == 4:
                del self.waiting[min(jobs)]
                return [Lost(min(jobs), "it was unplugged")]
            return super().events(timeout)

        def end(self, worker: int) -> None:
            self.ended.append(worker)
            super().end(worker)

    pool = Hanging()
    results = run_on(pool, tmp_path, plan=SHARED)
    assert results.complete and pool.starts == 4 + 1 + len(pool.ended) and len(pool.ended) == 3
    (warning,) = [record.message for record in caplog.records if "was lost" in record.message]
    assert warning.endswith("it was unplugged."), "the reason is that of the first, not of those that waited for it"


def test_a_member_lost_after_the_evidence_came_costs_nothing_but_its_replacement(tmp_path: Path) -> None:
    class Late(Ordered):
        lost = 0

        def events(self, timeout: float) -> Sequence[Event]:
            events = list(super().events(timeout))
            for place, event in enumerate(events):
                if isinstance(event, Ready) and event.worker in members_of(self) and not self.lost:
                    self.lost, events[place] = 1, Lost(event.worker, "it was unplugged")
            return events

    pool = Late(4, {})
    results = run_on(pool, tmp_path, plan=SHARED)
    assert pool.lost and results.complete and len(members_of(pool)) == 4 and pool.starts == 5
