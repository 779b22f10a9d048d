"""`python -m audit.training.worker FOLDER RANK WORLD_SIZE THREADS`: a process that shares a training."""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

import torch

from audit.core.types import Batch
from audit.training.launcher import ARGUMENTS, IMAGES, join_group, ready_file
from audit.training.loop import run_training


def run_worker(folder: Path, rank: int, world_size: int, threads: int) -> None:
    """Train along with rank 0, which alone validates, saves and reports, until it is done or gone.

    Args:
        folder: The group's folder, with the arguments and the images.
        rank: The number of this process, at least 1.
        world_size: The number of processes.
        threads: CPU threads of this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and rank 0 decides
    torch.set_num_threads(threads)
    with (folder / ARGUMENTS).open("rb") as file:
        arguments = pickle.load(file)
    stored = torch.load(folder / IMAGES, mmap=True, weights_only=True)
    train = Batch(stored["images"], stored["labels"], tuple(stored["ids"]))
    ready_file(folder, rank).touch()
    with join_group(folder, rank, world_size, threads, arguments["device"]) as workers:
        run_training(workers, train=train, **arguments)


if __name__ == "__main__":
    run_worker(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:5]))
