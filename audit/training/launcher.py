"""Starting the other processes of a team, and being rid of them."""

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

GIVEN, IMAGES, MEETING = "given.pickle", "images.pt", "meeting"
"""Files in the team's folder: the arguments of the training, the images, and the place where the processes meet."""

_PATIENCE = 600.0
"""Seconds for a process to import torch and read what it was given, on a machine that does other work."""
_WORDLESS = "it said nothing"


@contextmanager
def launch_workers(
    size: int, train: Batch, module: nn.Module, device: torch.device, given: Mapping[str, Any]
) -> Iterator[WorkerGroup]:
    """A team of `size` processes, this one the first; the others run `audit.training.worker` until the block ends.

    Each has its share of the processor's threads, or a GPU of its own. Raises UsageError for a net that no other
    process can build, SetupError when a process cannot start or ends early.
    """
    _require_room(size, device)
    with tempfile.TemporaryDirectory(prefix="audit-workers-", ignore_cleanup_errors=True) as name:
        folder, threads = Path(name), max(1, torch.get_num_threads() // size)
        _hand_over(folder, train, module, given)
        followers = [_start(folder, rank, size, threads) for rank in range(1, size)]
        try:
            _await(folder, followers)
            with join_group(folder, 0, size, threads, device) as team, _told_of_losses(folder, followers):
                yield team
        finally:
            for follower in followers:
                follower.kill()
                follower.wait()


@contextmanager
def join_group(folder: Path, rank: int, size: int, threads: int, device: torch.device) -> Iterator[WorkerGroup]:
    """Inside the block, this process is member `rank` of the team that meets in `folder`."""
    before, place = torch.get_num_threads(), os.environ.get("GLOO_SOCKET_IFNAME")
    if place is None and (loopback := _loopback()):
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(rank)
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / MEETING).as_uri(),
            rank=rank,
            world_size=size,
            timeout=timedelta(days=1),  # the others wait while the first measures; a death ends the wait at once
        )
        yield WorkerGroup(rank, size, before)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(before)
        if place is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)


def _require_room(size: int, device: torch.device) -> None:
    if not distributed.is_available() or distributed.is_initialized():
        why = "was built without torch.distributed" if not distributed.is_available() else "is in a process group"
        raise SetupError(
            f"Training with {size} workers starts processes of its own, and this torch {why}. Set training.workers to "
            "1."
        )
    if device.type not in ("cpu", "cuda"):
        raise SetupError(f"Several workers train on CPUs or GPUs, not on {device.type}. Set training.workers to 1.")
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise SetupError(
            f"{size} workers need a GPU each, and this machine has {torch.cuda.device_count()}. Set training.workers "
            "to that."
        )


def _hand_over(folder: Path, train: Batch, module: nn.Module, given: Mapping[str, Any]) -> None:
    torch.save({"images": train.images, "labels": train.labels, "ids": list(train.ids)}, folder / IMAGES)
    shown = [sys.modules[name] for name in {type(part).__module__ for part in module.modules()} if _only_here(name)]
    for code in shown:
        cloudpickle.register_pickle_by_value(code)
    try:
        (folder / GIVEN).write_bytes(cloudpickle.dumps({"module": module, **given}))
    except Exception as fault:  # whatever a class of the user's raises when it is pickled
        raise UsageError(
            f"Several workers each need the net, and {type(module).__name__} cannot be handed to another process "
            f"({fault}). Set training.workers to 1."
        ) from fault
    finally:
        for code in shown:
            cloudpickle.unregister_pickle_by_value(code)


def _only_here(name: str) -> bool:
    """Whether another process cannot import the module: code that was trusted by file is made here."""
    return name in sys.modules and name != "__main__" and sys.modules[name].__spec__ is None


def _start(folder: Path, rank: int, size: int, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audit.training.worker", str(folder), str(rank), str(size), str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with _words(folder, rank).open("wb") as words:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment)


def ready(folder: Path, rank: int) -> Path:
    """The file with which process `rank` says that it holds what it was given."""
    return folder / f"ready-{rank}"


def _words(folder: Path, rank: int) -> Path:
    return folder / f"words-{rank}"


def _await(folder: Path, followers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all hold what they were given, and take the files away: a killed training leaves no images behind."""
    until = time.monotonic() + _PATIENCE
    while not all(ready(folder, rank).exists() for rank in range(1, len(followers) + 1)):
        _require_alive(folder, followers)
        if time.monotonic() > until:
            raise SetupError(
                f"A training worker did not start within {_PATIENCE:g} s. Set training.workers to 1, or try again."
            )
        time.sleep(0.05)
    for name in (GIVEN, IMAGES):
        try:
            (folder / name).unlink()
        except OSError:  # Windows keeps a mapped file; the folder goes in the end
            continue


@contextmanager
def _told_of_losses(folder: Path, followers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """A failed exchange is, where a process has gone, that process's failure."""
    try:
        yield
    except RuntimeError:
        time.sleep(1.0)  # a process that fails closes its connections before it ends
        _require_alive(folder, followers)
        raise


def _require_alive(folder: Path, followers: Sequence[subprocess.Popen[bytes]]) -> None:
    for rank, follower in enumerate(followers, start=1):
        if follower.poll():
            said = _words(folder, rank).read_text(errors="replace").strip().rsplit("\n", 1)[-1][:300]
            raise SetupError(
                f"Training worker {rank + 1} of {len(followers) + 1} ended with code {follower.returncode} "
                f"({said or _WORDLESS}). The same command goes on from the last checkpoint."
            )


def _loopback() -> str | None:
    """The interface of this machine alone, where the system names one: nothing of a training goes on a network."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
