"""`python -m audit.training.worker FOLDER RANK SIZE THREADS`: one of the other processes of a team."""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

import torch

from audit.core.types import Batch
from audit.training.launcher import GIVEN, IMAGES, join_group, ready
from audit.training.loop import run_training


def main(folder: Path, rank: int, size: int, threads: int) -> None:
    """Train along with the first process, which alone measures, saves and reports, until it is done or gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and the first decides
    torch.set_num_threads(threads)
    with (folder / GIVEN).open("rb") as file:
        given = pickle.load(file)
    stored = torch.load(folder / IMAGES, mmap=True, weights_only=True)
    train = Batch(stored["images"], stored["labels"], tuple(stored["ids"]))
    ready(folder, rank).touch()
    with join_group(folder, rank, size, threads, given["device"]) as team:
        run_training(team, train=train, **given)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:5]))
