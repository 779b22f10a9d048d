"""`python -m audit.training.follower FOLDER RANK SIZE THREADS`: one of the other processes of a team."""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

import torch

from audit.training.crew import GIVEN, IMAGES, met, ready
from audit.training.loop import train_in
from audit.types import Batch


def main(folder: Path, rank: int, size: int, threads: int) -> None:
    """Train along with the first process, which alone measures, saves and reports, until it is done or gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and the first decides
    torch.set_num_threads(threads)
    with (folder / GIVEN).open("rb") as file:
        given = pickle.load(file)
    stored = torch.load(folder / IMAGES, mmap=True, weights_only=True)
    train = Batch(stored["images"], stored["labels"], tuple(stored["ids"]))
    ready(folder, rank).touch()
    with met(folder, rank, size, threads, given["device"]) as team:
        train_in(team, train=train, **given)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:5]))
