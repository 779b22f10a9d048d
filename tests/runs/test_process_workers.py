"""`--jobs`: workers in processes of this machine give the bytes of one process, whatever befalls them."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from audit.config import load_config
from audit.core.errors import AuditError, Interrupted, SetupError, UntrustedError
from audit.execution.workers import Event, Faulted, Lost, Ready
from audit.runs import process_pool
from audit.runs.engine import suited_jobs
from audit.runs.forked_worker import ForkedProcess
from audit.runs.pipeline import run_audit
from audit.runs.process_pool import ProcessPool
from audit.runs.process_worker import portable
from audit.runs.setup import set_up
from audit.runs.worker import Worker, WorkerOrder
from audit.storage.store import Store
from tests.runs.workers import Count, configured, killing

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are copies of the process on Linux alone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def alone(folder: Path) -> bytes:
    """The document that one process writes."""
    return run_audit(configured(folder), folder / "alone").folder.document.read_bytes()


def test_a_killed_worker_changes_no_byte(
    folder: Path, alone: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(ProcessPool, "send", killing(ProcessPool, "robustness", lambda pool, n: pool.processes[n]))
    finished = run_audit(configured(folder, jobs=2), tmp_path / "two")
    assert finished.folder.document.read_bytes() == alone
    (warning,) = [record.message for record in caplog.records if "was lost" in record.message]
    assert "robustness" in warning and "ended by SIGKILL" in warning
    assert not {"jobs", "engine"} & json.loads(alone)["protocol"]["configuration"].keys()


@ON_LINUX
def test_copies_of_the_process_compute_the_same_and_another_kind_takes_the_place_of_a_killed_one(
    folder: Path, alone: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds: list[type] = []

    def process_of(pool: ProcessPool, number: int) -> int:
        kinds.extend(type(worker.process) for worker in pool._workers.values())
        return pool.processes[number]

    monkeypatch.setattr(ProcessPool, "send", killing(ProcessPool, "robustness", process_of))
    begun, spawned = Mock(), ProcessPool._spawned
    monkeypatch.setattr(ProcessPool, "_spawned", lambda *given: begun() and spawned(*given))
    finished = run_audit(configured(folder, jobs=2), tmp_path / "forked", forks=True)
    assert finished.folder.document.read_bytes() == alone
    assert kinds == [ForkedProcess, ForkedProcess] and begun.call_count == 1
    assert capfd.readouterr().err == ""


@ON_LINUX
def test_what_a_copy_raises_before_it_works_is_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("audit.runs.process_worker.prepare_process", lambda: sys.exit("no room"))
    pool = ProcessPool(order_of(folder), 1, forks=True)
    try:
        pool.start(0)
        (event,) = pool.events(30.0)
        assert isinstance(event, Lost) and event.reason == "its process ended with code 1 (SystemExit: no room)"
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("threads", "changes", "jobs"),
    [
        (1, {}, None),
        pytest.param(2, {}, 2, marks=ON_LINUX),
        pytest.param(3, {}, 2, marks=ON_LINUX),
        (4, {}, None),
        (2, {"jobs": 1}, 1),
        (2, {"engine": "ray"}, None),
        (2, {"model": {"architecture": "cnn-28", "weights": "given"}}, None),
        (2, {"hardening": {"enabled": False}}, None),
        (2, {"training": {"nproc": 2, "shares": 2}}, None),
    ],
)
def test_two_workers_suit_two_cores_where_a_small_net_is_trained_twice(
    folder: Path, threads: int, changes: dict[str, Any], jobs: int | None
) -> None:
    if "model" in changes:
        changes = {"model": configured(folder).model.model_dump(exclude_unset=True)}
    setup = set_up(load_config(overrides={"device": "cpu", **changes}))
    torch.set_num_threads(threads)
    try:
        assert suited_jobs(setup) == jobs
        many = replace(setup.dataset, train=Mock(objects=None, __len__=lambda _: 10_001))
        assert suited_jobs(replace(setup, dataset=many)) == (None if jobs == 2 else jobs)
    finally:
        torch.set_num_threads(1)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(folder: Path, alone: bytes, tmp_path: Path) -> None:
    count = Count()
    cut = run_audit(
        configured(folder, jobs=2), tmp_path / "cut", callback=count, should_stop=lambda: count.computed >= 4
    )
    assert cut.document.summary.cut_by == "user" and cut.folder.report.exists() and not cut.results.complete
    before = count.computed
    finished = run_audit(configured(folder, jobs=2), tmp_path / "cut", callback=count)
    assert finished.folder.document.read_bytes() == alone
    assert count.computed == len(finished.results.evidence) and before < count.computed, "nothing twice"


def order_of(folder: Path, **changes: Any) -> WorkerOrder:
    return WorkerOrder.of(set_up(configured(folder, **changes)), folder / "store", None)


def test_a_worker_that_reads_other_images_is_refused(folder: Path) -> None:
    order = order_of(folder)
    other = replace(order, identity=replace(order.identity, test="0123456789abcdef" * 4))
    pool = ProcessPool(other, 1)
    try:
        pool.start(0)
        deadline = time.monotonic() + 60
        events: list[Event] = []
        while not events and time.monotonic() < deadline:
            events = list(pool.events(1.0))
        (event,) = events
        assert isinstance(event, Faulted) and isinstance(event.fault, SetupError) and event.fault.exit_code == 5
        assert "is refused: its fingerprint of the test images is" in str(event.fault)
    finally:
        pool.close()
    assert not pool.processes


@pytest.mark.parametrize("name", ["audit", "torch", "threads", "kind of CPU", "device", "Python"])
def test_a_worker_of_another_version_or_machine_is_refused(name: str, folder: Path) -> None:
    order = order_of(folder)
    other = replace(order, machine={**order.machine, name: "another"})
    with pytest.raises(SetupError, match=f"is refused: its {name} is .*, and another where the command was started"):
        Worker(other, Store(order.store), lambda done, total: None)


def test_a_worker_of_another_model_is_refused(folder: Path) -> None:
    order = order_of(folder)
    with pytest.raises(SetupError, match="is refused: its model is file:"):
        Worker(replace(order, identity=replace(order.identity, loaded="file:other")), Store(order.store), _nobody)


def test_a_worker_without_the_folder_of_the_driver_says_so(folder: Path) -> None:
    with pytest.raises(SetupError, match="has no folder /nowhere/at/all"):
        Worker(replace(order_of(folder), folder="/nowhere/at/all"), Store(folder), _nobody)


NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


def archive(path: Path) -> Path:
    """Four grey images for each of ten classes."""
    with zipfile.ZipFile(path, "w") as file:
        for n in range(40):
            picture = io.BytesIO()
            Image.new("L", (28, 28), 6 * n).save(picture, "PNG")
            file.writestr(f"test/{n % 10}/{n}.png", picture.getvalue())
    return path


def test_code_that_the_driver_vouched_for_runs_in_workers_and_changed_code_does_not(
    folder: Path, tmp_path: Path
) -> None:
    """On images of an archive, which each worker opens for itself."""
    code = tmp_path / "net.py"
    code.write_text(NET)
    changes = {
        "data": {"source": f"archive:{archive(tmp_path / 'images.zip')}", "grayscale": True},
        "model": {"weights": None, "architecture": f"{code}:make", "own_weights": True, "trust": [str(code)]},
        "only": ["accuracy"],
    }
    alone, two = (
        run_audit(configured(folder, jobs=jobs, **changes), tmp_path / str(jobs)).folder.document.read_bytes()
        for jobs in (1, 2)
    )
    assert alone == two
    order = order_of(folder, **changes)
    (entry,) = order.config["model"]["trust"]
    assert len(entry["sha256"]) == 64
    code.write_text(NET + "# changed\n")
    with pytest.raises(UntrustedError, match="has changed since it was trusted"):
        Worker(order, Store(folder), _nobody)


@pytest.mark.parametrize("forks", [False, pytest.param(True, marks=ON_LINUX)])
def test_workers_end_with_a_driver_that_is_gone(folder: Path, forks: bool) -> None:
    """The pipe closes as it does when the driver is killed."""
    pool = ProcessPool(order_of(folder), 1, forks=forks)
    pool.start(0)
    process = pool._workers[0].process
    try:
        while not any(isinstance(event, Ready | Lost) for event in pool.events(1.0)):
            assert process.poll() is None
        pool._workers[0].pipe.close()
        assert process.wait(timeout=30) == 0
    finally:
        pool.close()


def test_a_worker_that_cannot_start_says_what_python_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "_PROGRAM", "import sys; sys.exit('no libtorch')  # {path!r} {descriptor}")
    monkeypatch.setattr("audit.runs.engine.ProcessPool", ProcessPool)
    with pytest.raises(SetupError, match=r"No worker could be started: its process ended with code 1 \(no libtorch\)"):
        run_audit(configured(folder, jobs=2, only=["accuracy"]), folder / "broken")


def test_errors_cross_processes_with_their_traceback_as_a_note() -> None:
    class Local(Exception):
        pass

    for fault, kind in (
        (SetupError("No disk."), SetupError),
        (Interrupted("Stopped."), Interrupted),
        (Local("odd"), RuntimeError),
        (AuditError("x"), AuditError),
    ):
        try:
            raise fault
        except Exception as raised:
            carried = portable(raised)
        assert type(carried) is kind and str(fault) in str(carried)
        assert "test_errors_cross_processes" in "".join(carried.__notes__)


def test_threads_are_shared_out_and_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(order: WorkerOrder, *_: object, **__: object) -> ProcessPool:
        seen.append(order.threads)
        raise SetupError("enough")

    monkeypatch.setattr("audit.runs.engine.ProcessPool", noted)
    torch.set_num_threads(4)
    try:
        for jobs in (2, 3, 9):
            with pytest.raises(SetupError, match="enough"):
                run_audit(configured(folder, jobs=jobs), folder / "threads")
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)
    assert seen == [2, 1, 1]


def test_cards_are_dealt_out_to_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[str] = []

    class Popen:
        pid = os.getpid()

        def __init__(self, *_: object, env: dict[str, str], **__: object) -> None:
            environments.append(env["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr("audit.runs.process_pool.subprocess.Popen", Popen)
    pool = ProcessPool(order_of(folder), 3, ("0", "5"))
    for worker in range(3):
        pool.start(worker)
    assert environments == ["0", "5", "0"]
    for started in pool._workers.values():
        started.pipe.close()
        started.errors.close()


def _nobody(done: int, total: int) -> None:
    logging.getLogger("audit").debug("%s of %s", done, total)
