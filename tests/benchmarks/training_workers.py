"""One process with all threads against several workers with a part of them each: same net, recipe, batch and images.

    python tests/benchmarks/training_workers.py --examples 12000 --workers 2 --rounds 3

They train in turn, round after round; each row gives the fastest epoch after the first, with its check on held-out
images. Seconds compare within one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.models.architecture import build
from audit.training.fit import fit


def seconds(train: Batch, shape: tuple[int, int, int], workers: int, given: argparse.Namespace) -> float:
    """The faster of two epochs, the first being one more."""
    settings = TrainingConfig(recipe=given.recipe, epochs=3, batch_size=given.batch, workers=workers)
    module = build(given.architecture, classes=10, input_shape=shape, seed=0)
    return min(fit(module, train, settings, classes=10, threat=ThreatModel("linf", 0.1), seed=0).seconds[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--architecture", default="cnn-28")
    parser.add_argument("--recipe", default="pgd")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = load_dataset(given.data)
    assert data.train is not None
    train = data.train.batch(slice(0, given.examples))
    best = {1: float("inf"), given.workers: float("inf")}
    for _ in range(given.rounds):
        for workers in best:
            best[workers] = min(best[workers], seconds(train, data.shape, workers, given))
    table = Table("workers", "threads each", "seconds an epoch", "x of one process")
    for workers, taken in best.items():
        threads = max(1, torch.get_num_threads() // workers)
        table.add_row(str(workers), str(threads), f"{taken:.2f}", f"{taken / best[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
