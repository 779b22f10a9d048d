"""`--engine ray`: workers on Ray give the bytes of one process, whatever befalls them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.core.errors import AuditError, SetupError, UsageError
from audit.execution import parallel
from audit.execution.workers import Faulted, Lost, Ready
from audit.runs import pipeline, ray_actors, ray_connection, ray_pool
from audit.runs.pipeline import run_audit
from audit.runs.ray_actors import RayActors
from audit.runs.ray_pool import RayPool
from audit.runs.setup import set_up
from audit.runs.worker import WorkerOrder
from tests.runs.workers import Count, KillsMember, bytes_of, configured, killing, noting_members, shared

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Ray on two cores, on the loopback interface alone, without a dashboard; its address."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ray_connection.QUIET | ray_connection.ON_LOOPBACK).items():
            patch.setenv(name, value)
        patch.setattr(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False)
        context = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


def process_of(pool: Any, worker: int) -> int:
    actor = pool._actors[worker].handle
    ray.get(actor.progress.remote())  # it has begun
    return int(ray._private.state.actors()[actor._ray_actor_id.hex()]["Pid"])


@pytest.mark.slow
def test_a_killed_worker_and_a_stop_change_no_byte(
    cluster: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In one run: its worker is killed in the middle of a cell, the run is stopped, and the same command goes on."""
    alone = run_audit(configured(folder), folder / "alone").folder.document.read_bytes()
    monkeypatch.setattr(RayPool, "send", killing(RayPool, "robustness", process_of))
    config, count = configured(folder, engine="ray", jobs=2), Count()
    cut = run_audit(config, folder / "ray", callback=count, should_stop=lambda: count.computed >= 5)
    assert cut.document.summary.cut_by == "user" and not cut.results.complete
    finished = run_audit(config, folder / "ray", callback=count)
    assert finished.folder.document.read_bytes() == alone
    assert count.computed == len(finished.results.evidence), "nothing twice"
    assert [record for record in caplog.records if "was lost while it computed robustness" in record.message]
    assert ray.is_initialized(), "whoever connected stays connected"


@pytest.mark.slow
def test_workers_share_a_training_and_one_that_is_killed_changes_no_byte(
    cluster: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = bytes_of(run_audit(shared(folder, nproc=1), folder / "hardened-alone"))
    pids: dict[int, int] = {}
    monkeypatch.setattr(RayPool, "send", noting_members(RayPool, process_of, pids))
    monkeypatch.setattr(ray_pool, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(parallel, "_POLL", 0.05)
    kill = KillsMember(1, pids)
    assert bytes_of(run_audit(shared(folder, engine="ray", jobs=2), folder / "shared", callback=kill)) == alone
    assert kill.killed_at and min(kill.steps[kill.killed_at :], default=1) > 0


@pytest.mark.slow
def test_a_worker_that_reads_other_images_is_refused(cluster: str, folder: Path) -> None:
    order = WorkerOrder.of(set_up(configured(folder)), folder / "store", None)
    order = replace(order, identity=replace(order.identity, test="ab" * 32))
    pool = RayPool(order, RayActors("cpu", "", 1, threads=1))
    try:
        pool.start(0)
        events: list[Any] = []
        for _ in range(60):
            events = events or [e for e in pool.events(1.0) if isinstance(e, Faulted | Lost | Ready)]
        (event,) = events
        assert isinstance(event, Faulted) and isinstance(event.fault, SetupError)
        assert "is refused: its fingerprint of the test images is" in str(event.fault)
    finally:
        pool.close()


def test_more_workers_than_there_is_room_for_are_refused(cluster: str) -> None:
    with closing(RayActors("cpu", "", None, threads=1)) as actors:
        assert actors.size == 2
    with pytest.raises(UsageError, match="--jobs 3: the Ray cluster has room for 2 workers of 1 cores each"):
        RayActors("cpu", "", 3, threads=1)
    with pytest.raises(SetupError, match="No machine of the Ray cluster has 3 cores for a worker"):
        RayActors("cpu", "", None, threads=3)
    with pytest.raises(SetupError, match=r"has 1 cores and a GPU for a worker: .* or use --device cpu"):
        RayActors("cuda", "", None, threads=1)


def test_workers_begin_before_the_command_has_read_its_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And they end with it where the data cannot be read."""
    begun: list[str] = []

    class Actors:
        def close(self) -> None:
            begun.append("closed")

    def actors(*given: object) -> Actors:
        begun.append("actors")
        return Actors()

    def set_up(config: object) -> None:
        begun.append("data")
        raise UsageError("no such data")

    monkeypatch.setattr(ray_actors, "RayActors", actors)
    monkeypatch.setattr(pipeline, "set_up", set_up)
    with pytest.raises(UsageError, match="no such data"):
        run_audit(configured(folder, engine="ray", jobs=2), folder / "refused")
    assert begun == ["actors", "data", "closed"] and not (folder / "refused").exists()


def test_ray_listens_to_this_machine_alone(cluster: str) -> None:
    assert cluster.startswith("127.0.0.1:")
    port = f":{int(cluster.rpartition(':')[2]):04X}"
    listening = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    (address,) = {words[1] for words in listening if words[1].endswith(port) and words[3] == "0A"}
    assert address.startswith(("0100007F:", "0000000000000000FFFF00000100007F:"))


@pytest.mark.slow
def test_a_cluster_of_another_python_is_refused_in_a_sentence(cluster: str, folder: Path) -> None:
    """Ray compares versions when it connects; this process says that it is another."""
    program = (
        "import sys, ray\n"
        "ray._private.utils.compute_version_info = lambda: (ray.__version__, '3.99.1')\n"
        "from audit.runs.ray_connection import connect\n"
        "try: connect(sys.argv[1])\n"
        "except Exception as fault: print(type(fault).__name__, fault)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, cluster], capture_output=True, text=True, timeout=120, check=False
    )
    assert said.stdout.startswith("SetupError The Ray cluster at 127.0.0.1"), said.stdout + said.stderr
    assert "has other versions of Python or Ray than this machine" in said.stdout and "3.99.1" in said.stdout
    assert said.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("127.0.0.1:1", SetupError, "No Ray cluster answers at 127.0.0.1:1 (Connection refused). Start Ray there"),
        ("nowhere", UsageError, "--engine ray:nowhere: HOST:PORT or auto was expected"),
        ("ray://10.0.0.1:10001", UsageError, "HOST:PORT or auto was expected"),
    ],
)
def test_an_address_without_a_cluster_is_refused(
    address: str, kind: type[AuditError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(kind) as refused:
        ray_connection.connect(address)
    assert said in str(refused.value) and type(refused.value) is kind


def test_without_ray_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"--engine ray needs Ray: pip install 'audit\[ray\]'\."):
        ray_connection.connect("")
