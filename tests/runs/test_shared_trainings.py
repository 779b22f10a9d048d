"""A training that workers of a run share: the bytes of one process, whoever dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.config import RunConfig, merge
from audit.core.errors import UsageError
from audit.execution.runner import RunCallback
from audit.execution.workers import Job
from audit.planning.plan import Task
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.process_pool import ProcessPool
from tests.runs.workers import configured

HARDENED: dict[str, Any] = {
    "only": ["accuracy"],
    "hardening": {"enabled": True, "epochs": 4, "shares": 2, "recipe": "fgsm-rs", "recipe_settings": {}},
}


def shared(folder: Path, nproc: int = 2, **changes: Any) -> RunConfig:
    """A given net, hardened in two shares of a batch, by as many processes as are said."""
    return configured(folder, **merge(merge(HARDENED, {"hardening": {"nproc": nproc}}), changes))


def bytes_of(finished: AuditRun) -> tuple[bytes, bytes]:
    return finished.folder.document.read_bytes(), finished.folder.model("hardened").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def alone(folder: Path) -> tuple[bytes, bytes]:
    """What one process writes that learns from the shares one after another."""
    return bytes_of(run_audit(shared(folder, nproc=1), folder / "alone"))


class KillsIn(RunCallback):
    """Ends a worker by SIGKILL after the first epoch of the training, once."""

    def __init__(self, rank: int, pids: dict[int, int]) -> None:
        self.rank, self.pids = rank, pids
        self.steps: list[int] = []
        self.killed_at = 0

    def progress(self, task: Task, done: int, total: int) -> None:
        if task.cell.study == "training":
            self.steps.append(done)
            if not self.killed_at and 0 < done < total:
                self.killed_at = len(self.steps)
                os.kill(self.pids[self.rank], signal.SIGKILL)


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """The process of each worker of the shared training under way, by its rank."""
    pids: dict[int, int] = {}
    send = ProcessPool.send

    def noted(pool: ProcessPool, worker: int, job: Job) -> None:
        if job.membership is not None:
            pids[job.membership.rank] = pool.processes[worker]
        send(pool, worker, job)

    monkeypatch.setattr(ProcessPool, "send", noted)
    yield pids


@pytest.mark.parametrize("rank", [0, 1])
def test_workers_that_share_a_training_write_the_bytes_of_one_process_also_when_one_is_killed(
    rank: int, folder: Path, alone: tuple[bytes, bytes], members: dict[int, int], tmp_path: Path
) -> None:
    kill = KillsIn(rank, members)
    finished = run_audit(shared(folder, jobs=2), tmp_path / "two", callback=kill, forks=True)
    assert bytes_of(finished) == alone
    assert kill.killed_at
    assert kill.steps[kill.killed_at] > 0, "it goes on from the checkpoint"


def test_more_than_there_are_workers_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 workers are to train together, and this run has 2: give --nproc 2, or"):
        run_audit(shared(folder, nproc=4, jobs=2, hardening={"shares": 4}), tmp_path / "four")
    assert not (tmp_path / "four").exists()
