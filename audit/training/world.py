"""The processes that train one net together, as one of them sees them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

from audit.core.errors import Interrupted, TrainingDiverged, UsageError, one_line
from audit.training.callbacks import TrainingCallbacks
from audit.training.distributed import ExchangeFailed, WorkerGroup
from audit.training.job import TrainingJob, follow, lead
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages

EXCHANGE_TIMEOUT = timedelta(minutes=10)
"""How long an exchange waits for a process that does not come; one that has died is noticed at once."""
_ASKING = 0.2
_DONE = "done"
_c10d: Any = distributed  # torch exports its stores without naming them
_world: World | None = None


@dataclass
class World:
    """The processes that train together: those of torchrun, or workers of a run that compute one cell.

    Attributes:
        store: A store of keys, through which the processes meet.
        workers: This process among them.
        trainings: How many trainings there have been.
    """

    store: Any
    workers: WorkerGroup
    trainings: int = 0

    def train(
        self, job: TrainingJob, module: nn.Module, images: SplitImages, callbacks: TrainingCallbacks | None
    ) -> TrainingResult:
        """Train in rank 0 together with the others.

        Args:
            job: The training.
            module: The net, trained in place.
            images: All images.
            callbacks: What to call on the way.

        Raises:
            ExchangeFailed: When another process ends.
        """
        kind = job.device.type
        device = member_device(kind)
        self.trainings += 1
        with exchanges():
            self.store.set(f"training/{self.trainings}", kind)
            with process_group(self._own_store(), self.workers, device):
                return lead(self.workers, replace(job, device=device), module, images, callbacks)

    def serve(self) -> None:
        """Take part in the trainings of rank 0 until it is done.

        Raises:
            ExchangeFailed: When another process ends.
        """
        with exchanges():
            while (kind := self._next()) != _DONE:
                device = member_device(kind)
                try:
                    with process_group(self._own_store(), self.workers, device):
                        follow(self.workers, device)
                except (UsageError, TrainingDiverged, Interrupted):  # rank 0 meets the same, and says so
                    continue

    def end(self) -> None:
        """Tell the others that no training is to come."""
        self.store.set(f"training/{self.trainings + 1}", _DONE)

    def _next(self) -> str:
        self.trainings += 1
        key = f"training/{self.trainings}"
        while not self.store.check([key]):
            time.sleep(_ASKING)
        return str(self.store.get(key), "utf-8")

    def _own_store(self) -> Any:
        return _c10d.PrefixStore(f"group/{self.trainings}", self.store)


def world() -> World | None:
    """The processes that this one trains with; None for it alone."""
    return _world


@contextmanager
def joined_world(store: Any, workers: WorkerGroup) -> Iterator[World]:
    """Inside the block, trainings with `nproc` are shared by the processes of a store.

    Args:
        store: Where they meet.
        workers: This process among them.

    Yields:
        The processes; those of another rank than 0 are to `serve`.
    """
    global _world
    own = World(_c10d.PrefixStore("audit", store), workers)
    _world = own
    try:
        yield own
    finally:
        _world = None
        if workers.rank == 0:
            own.end()


def member_device(kind: str) -> torch.device:
    """The device of this process: the CPU, or of the GPUs that it sees that of its number on this machine.

    Args:
        kind: "cpu" or "cuda".
    """
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)


@contextmanager
def process_group(store: Any, workers: WorkerGroup, device: torch.device) -> Iterator[None]:
    """Inside the block, the processes of a group exchange tensors.

    Args:
        store: Where they meet.
        workers: This process among them.
        device: Where this process trains.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=workers.rank,
        world_size=workers.world_size,
        timeout=EXCHANGE_TIMEOUT,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def exchanges() -> Iterator[None]:
    """A block in which torch's errors tell of a process that is gone.

    Raises:
        ExchangeFailed: In their place.
    """
    try:
        yield
    except RuntimeError as fault:
        raise ExchangeFailed(
            f"A process of this training ended or lost its connection ({one_line(fault)}). The same command goes on "
            "from the last checkpoint."
        ) from fault
