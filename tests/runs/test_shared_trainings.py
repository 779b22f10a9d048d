"""A training that workers of a run share: the bytes of one process, whoever dies on the way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from audit.core.errors import UsageError
from audit.execution import parallel
from audit.execution.runner import RunCallback
from audit.planning.plan import Task
from audit.runs.engine import suited_jobs
from audit.runs.pipeline import run_audit
from audit.runs.process_pool import ProcessPool
from audit.runs.setup import set_up
from audit.runs.worker import WorkerOrder
from audit.training.distributed import ExchangeFailed, WorkerGroup
from audit.training.meeting import meeting_at, open_meeting
from tests.runs.workers import KillsMember, bytes_of, noting_members, shared

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are copies of the process on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def alone(folder: Path) -> tuple[bytes, bytes]:
    """What one process writes that learns from the shares one after another."""
    return bytes_of(run_audit(shared(folder, nproc=1), folder / "alone"))


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """The process of each worker of the shared training under way, by its rank."""
    pids: dict[int, int] = {}
    monkeypatch.setattr(ProcessPool, "send", noting_members(ProcessPool, lambda pool, n: pool.processes[n], pids))
    yield pids


@ON_LINUX
@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_workers_that_share_a_training_write_the_bytes_of_one_process_also_when_one_is_killed(
    rank: int, folder: Path, alone: tuple[bytes, bytes], members: dict[int, int], tmp_path: Path
) -> None:
    kill = KillsMember(rank, members)
    finished = run_audit(shared(folder, jobs=2), tmp_path / "two", callback=kill, forks=True)
    assert bytes_of(finished) == alone
    assert kill.killed_at
    assert kill.steps[kill.killed_at] > 0, "it goes on from the checkpoint"


def test_more_than_there_are_workers_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 workers are to train together, and this run has 2: give --nproc 2, or"):
        run_audit(shared(folder, nproc=4, jobs=2, hardening={"shares": 4}), tmp_path / "four")
    assert not (tmp_path / "four").exists()


@ON_LINUX
def test_a_shared_training_that_was_stopped_goes_on_in_one_process(
    folder: Path, alone: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parallel, "FINISH_SECONDS", 0.0)
    steps = Steps()
    cut = run_audit(
        shared(folder, jobs=2),
        tmp_path / "cut",
        callback=steps,
        should_stop=lambda: any(0 < done < total for done, total in steps.told),
        forks=True,
    )
    assert cut.document.summary.cut_by == "user" and not cut.folder.model("hardened").exists()
    resumed = Steps()
    assert bytes_of(run_audit(shared(folder, nproc=1), tmp_path / "cut", callback=resumed)) == alone
    assert resumed.told[0][0] > 0


class Steps(RunCallback):
    """How far the training is, each time that it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def progress(self, task: Task, done: int, total: int) -> None:
        if task.cell.study == "training":
            self.told.append((done, total))


def test_torchrun_and_workers_of_the_run_do_not_go_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun has started the processes that train together, and --jobs"):
        run_audit(shared(folder, jobs=2), tmp_path / "torchrun")
    assert not (tmp_path / "torchrun").exists()
    assert suited_jobs(set_up(shared(folder, nproc=1))) is None


def test_workers_that_train_together_have_a_card_each(folder: Path) -> None:
    order = WorkerOrder.of(set_up(shared(folder)), folder / "store", None)
    pool = ProcessPool(order, 5, ("0", "3"))
    assert pool.most_together == 2
    assert pool.together([4, 2, 0], 2) == () and pool.together([4, 3, 2], 2) == [3, 4]
    free = ProcessPool(order, 3)
    assert free.most_together == 3 and free.together([2, 0], 2) == [0, 2] and free.together([2, 0], 3) == ()


@ON_LINUX
def test_a_meeting_listens_at_its_own_address_alone_and_takes_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    store, address = open_meeting("127.0.0.1")
    port = f"{urlsplit(address).port:04X}"
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()]
    assert [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")] == [f"0100007F:{port}"]
    with meeting_at(address, WorkerGroup(0, 1)) as world:
        assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
        world.store.set("word", "given")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    assert store.check(["audit/word"])


def test_a_meeting_that_nobody_opened_is_a_failed_exchange() -> None:
    with pytest.raises(ExchangeFailed, match="A process of this training ended or lost its connection"):
        with meeting_at("", WorkerGroup(1, 2)):
            pass
