"""Actors of Ray that import what a worker needs, while the command still reads its data and its model.

Nothing of the package but its configuration is imported here before they are made: the import of the rest, some seconds
on either side, then takes place in the command and in the workers at the same time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from audit.config import RunConfig
from audit.core.errors import SetupError, UsageError
from audit.runs.ray_connection import connect
from audit.runs.ray_worker import CONTROL, RayWorker
from audit.runs.worker_threads import threads_of_one, threads_of_process


class RayActors:
    """A connection to Ray, and the actors that were made through it, each with cores of its own.

    Attributes:
        ray: The module.
        threads: CPU threads of each.
        size: How many the run is to have.
    """

    def __init__(self, device: str, address: str, jobs: int | None, threads: int) -> None:
        """Connect, and make the actors; what becomes of them is seen when they are given an order.

        Args:
            device: Kind of device that models run on: on "cuda" each actor has a GPU of its own.
            address: Of the cluster, as HOST:PORT or auto; empty for Ray on this machine alone.
            jobs: How many; None for as many as there is room for.
            threads: CPU threads of each.

        Raises:
            SetupError: Ray is not installed, does not answer, or has no room.
            UsageError: There is no room for so many.
        """
        self.ray, self._connected_here = connect(address)
        self.threads = threads
        self._resources = {"num_cpus": threads, "num_gpus": 1 if device == "cuda" else 0}
        self._class = _actor_class(self.ray, self._resources)
        self._unused: deque[Any] = deque()
        try:
            self.size = self._room(jobs)
            for _ in range(self.size):
                self._unused.append(self._made())
        except BaseException:
            self.close()
            raise

    def take(self) -> Any:
        """An actor that has no order yet: one of those that were made at first, or a new one."""
        return self._unused.popleft() if self._unused else self._made()

    def close(self) -> None:
        """End the actors that nobody took, and Ray where it was started for this run."""
        while self._unused:
            with suppress(Exception):
                self.ray.kill(self._unused.popleft())
        if self._connected_here:
            self.ray.shutdown()

    def _made(self) -> Any:
        actor = self._class.remote()
        actor.prepare.remote()
        return actor

    def _room(self, jobs: int | None) -> int:
        """How many workers there are to be, where they find room."""
        cores, cards = self._resources["num_cpus"], self._resources["num_gpus"]
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        rooms = [min(node.get("CPU", 0) // cores, node.get("GPU", 0) if cards else float("inf")) for node in nodes]
        room, needs = int(sum(rooms)), f"{cores} cores{' and a GPU' if cards else ''}"
        if not room:
            raise SetupError(
                f"No machine of the Ray cluster has {needs} for a worker: set OMP_NUM_THREADS to fewer cores"
                f"{', or use --device cpu' if cards else ''}."
            )
        if jobs is not None and jobs > room:
            raise UsageError(f"--jobs {jobs}: the Ray cluster has room for {room} workers of {needs} each.")
        return jobs or room


def begin_actors(config: RunConfig) -> RayActors | None:
    """The actors of a run, which begin at once; to be closed.

    Args:
        config: The configuration of the run.

    Returns:
        The actors; None where the run is not computed on Ray, or is refused as torchrun has started its processes.

    Raises:
        UsageError: One accelerator is named, or there is no room for so many workers.
        SetupError: Ray is not installed, does not answer, or has no room.
    """
    if config.engine == "in-process":
        return None
    if config.device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {config.device} names one accelerator, and Ray gives each worker its own: use --device "
            "auto, cpu or cuda."
        )
    if _started_by_torchrun():
        return None
    threads, address = threads_of_one(config, threads_of_process()), config.engine.partition(":")[2]
    return RayActors(_kind_of_device(config.device), address, config.jobs, threads)


def _started_by_torchrun() -> bool:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    from audit.training.distributed import launched_by_torchrun

    return launched_by_torchrun()


def _kind_of_device(name: str) -> str:
    """The kind of device that models run on; torch is imported only where there may be a GPU."""
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and not _may_have_gpu()):
        return "cpu"
    from audit.models.devices import resolve_device

    return resolve_device(name).type


def _may_have_gpu() -> bool:
    """Whether this machine has a driver of NVIDIA or AMD: without one torch finds no GPU."""
    if any(Path(f"/dev/{name}").exists() for name in ("nvidiactl", "dxg", "kfd")):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _actor_class(ray: Any, resources: Mapping[str, Any]) -> Any:
    control = ray.method(concurrency_group=CONTROL)
    methods = {name: control(getattr(RayWorker, name)) for name in ("progress", "stop")}
    options = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": {CONTROL: 1}, **resources}
    return ray.remote(**options)(type("RayWorker", (RayWorker,), methods))
