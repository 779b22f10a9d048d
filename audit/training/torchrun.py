"""Under torchrun: rank 0 runs the command, and the other processes wait for its trainings and take part in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from audit.training.distributed import WorkerGroup, require_cards
from audit.training.world import EXCHANGE_TIMEOUT, World, joined_world


@contextmanager
def torchrun_world(device: torch.device) -> Iterator[World]:
    """Inside the block, trainings with `nproc` are shared by the processes that torchrun has started.

    Args:
        device: "cpu", or "cuda" for a GPU each.

    Yields:
        The processes; those of another rank than 0 are to `serve`.

    Raises:
        SetupError: When this machine has fewer GPUs than processes.
    """
    require_cards(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device)
    store, rank, size = next(iter(distributed.rendezvous("env://", timeout=EXCHANGE_TIMEOUT)))  # type: ignore[attr-defined]
    if rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and rank 0 decides
    with joined_world(store, WorkerGroup(rank, size)) as world:
        yield world
