"""Start the other processes of a training that several share, and end them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import distributed, nn

from audit.core.errors import SetupError, UsageError
from audit.core.types import Batch
from audit.training.distributed import WorkerGroup

ARGUMENTS, IMAGES, RENDEZVOUS = "arguments.pickle", "images.pt", "rendezvous"
"""Files in the group's folder: the arguments of the training, the images, and torch's file for the group to meet."""

_START_TIMEOUT = 600.0
"""Seconds for a process to import torch and read its arguments, on a machine that does other work."""


@contextmanager
def launch_workers(
    world_size: int, train: Batch, module: nn.Module, device: torch.device, arguments: Mapping[str, Any]
) -> Iterator[WorkerGroup]:
    """Inside the block, the other processes of a group run `audit.training.worker`; after it, they are ended.

    Each process has its share of the processor's threads, or a GPU of its own.

    Args:
        world_size: The number of processes, this one included, at least 2.
        train: Images on the CPU with labels and ids.
        module: The net, which is pickled.
        device: "cpu" or "cuda".
        arguments: The other arguments of `run_training`, which are pickled.

    Yields:
        The group, in which this process is rank 0.

    Raises:
        UsageError: When the net cannot be pickled.
        SetupError: When a process cannot start or ends early.
    """
    _require_devices(world_size, device)
    with tempfile.TemporaryDirectory(prefix="audit-workers-", ignore_cleanup_errors=True) as name:
        folder, threads = Path(name), max(1, torch.get_num_threads() // world_size)
        _write_arguments(folder, train, module, arguments)
        processes = [_start(folder, rank, world_size, threads) for rank in range(1, world_size)]
        try:
            _wait_until_ready(folder, processes)
            with join_group(folder, 0, world_size, threads, device) as workers, _report_dead(folder, processes):
                yield workers
        finally:
            for process in processes:
                process.kill()
                process.wait()


@contextmanager
def join_group(folder: Path, rank: int, world_size: int, threads: int, device: torch.device) -> Iterator[WorkerGroup]:
    """Inside the block, this process is a member of a group of processes.

    Args:
        folder: The folder in which the processes meet.
        rank: The number of this process, from 0.
        world_size: The number of processes.
        threads: CPU threads of each process.
        device: "cpu" or "cuda".

    Yields:
        The group.
    """
    threads_before, interface = torch.get_num_threads(), os.environ.get("GLOO_SOCKET_IFNAME")
    if interface is None and (loopback := _loopback()):
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(rank)
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / RENDEZVOUS).as_uri(),
            rank=rank,
            world_size=world_size,
            timeout=timedelta(days=1),  # the others wait while rank 0 validates; a death ends the wait at once
        )
        yield WorkerGroup(rank, world_size, threads_before)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(threads_before)
        if interface is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)


def ready_file(folder: Path, rank: int) -> Path:
    """The file that a process makes once it has read its arguments.

    Args:
        folder: The group's folder.
        rank: The number of the process.
    """
    return folder / f"ready-{rank}"


def _require_devices(world_size: int, device: torch.device) -> None:
    if not distributed.is_available() or distributed.is_initialized():
        reason = "was built without torch.distributed" if not distributed.is_available() else "is in a process group"
        raise SetupError(
            f"Training with {world_size} workers starts processes of its own, and this torch {reason}. Set "
            "training.workers to 1."
        )
    if device.type not in ("cpu", "cuda"):
        raise SetupError(f"Several workers train on CPUs or GPUs, not on {device.type}. Set training.workers to 1.")
    if device.type == "cuda" and torch.cuda.device_count() < world_size:
        raise SetupError(
            f"{world_size} workers need a GPU each, and this machine has {torch.cuda.device_count()}. Set "
            "training.workers to that."
        )


def _write_arguments(folder: Path, train: Batch, module: nn.Module, arguments: Mapping[str, Any]) -> None:
    torch.save({"images": train.images, "labels": train.labels, "ids": list(train.ids)}, folder / IMAGES)
    names = {type(layer).__module__ for layer in module.modules()}
    local_modules = [sys.modules[name] for name in names if _not_importable(name)]
    for code in local_modules:
        cloudpickle.register_pickle_by_value(code)
    try:
        (folder / ARGUMENTS).write_bytes(cloudpickle.dumps({"module": module, **arguments}))
    except Exception as fault:  # whatever a class of the user's raises when it is pickled
        raise UsageError(
            f"Several workers each need the net, and {type(module).__name__} cannot be handed to another process "
            f"({fault}). Set training.workers to 1."
        ) from fault
    finally:
        for code in local_modules:
            cloudpickle.unregister_pickle_by_value(code)


def _not_importable(name: str) -> bool:
    """Whether another process cannot import the module, as with code that the user trusts by its file."""
    return name in sys.modules and name != "__main__" and sys.modules[name].__spec__ is None


def _start(folder: Path, rank: int, world_size: int, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audit.training.worker", str(folder), str(rank), str(world_size), str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with _log_file(folder, rank).open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)


def _log_file(folder: Path, rank: int) -> Path:
    return folder / f"log-{rank}"


def _wait_until_ready(folder: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have read their arguments, and remove the files: a killed training leaves no images behind."""
    deadline = time.monotonic() + _START_TIMEOUT
    while not all(ready_file(folder, rank).exists() for rank in range(1, len(processes) + 1)):
        _require_alive(folder, processes)
        if time.monotonic() > deadline:
            raise SetupError(
                f"A training worker did not start within {_START_TIMEOUT:g} s. Set training.workers to 1, or try again."
            )
        time.sleep(0.05)
    for name in (ARGUMENTS, IMAGES):
        try:
            (folder / name).unlink()
        except OSError:  # Windows keeps a mapped file; the folder goes in the end
            continue


@contextmanager
def _report_dead(folder: Path, processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Turn a failed exchange into the error of the process that ended, where one has."""
    try:
        yield
    except RuntimeError:
        time.sleep(1.0)  # a process that fails closes its connections before it ends
        _require_alive(folder, processes)
        raise


def _require_alive(folder: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for rank, process in enumerate(processes, start=1):
        if process.poll():
            last_line = _log_file(folder, rank).read_text(errors="replace").strip().rsplit("\n", 1)[-1][:300]
            raise SetupError(
                f"Training worker {rank + 1} of {len(processes) + 1} ended with code {process.returncode} "
                f"({last_line or 'it said nothing'}). The same command goes on from the last checkpoint."
            )


def _loopback() -> str | None:
    """The name of the loopback interface, where the system has one: nothing of a training goes on a network."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
