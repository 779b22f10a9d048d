"""One process against several that divide the shares of each batch: same net, recipe, batch, images and weights.

    python tests/benchmarks/training_workers.py --examples 12000 --nproc 2 --shares 2 --rounds 3

They train in turn, round after round: one process with the whole batch, one with its shares one after another, and
several with the shares divided. Each row gives the fastest epoch after the first, with its check on held-out images.
Seconds compare within one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.models.architecture import build
from audit.training.fit import fit


def seconds(train: Batch, shape: tuple[int, int, int], shares: int, nproc: int, given: argparse.Namespace) -> float:
    """The faster of two epochs, the first being one more."""
    settings = TrainingConfig(recipe=given.recipe, epochs=3, batch_size=given.batch, shares=shares)
    module = build(given.architecture, classes=10, input_shape=shape, seed=0)
    threat = ThreatModel("linf", 0.1)
    shared = nproc if nproc > 1 else None
    return min(fit(module, train, settings, classes=10, threat=threat, seed=0, nproc=shared).seconds[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--architecture", default="cnn-28")
    parser.add_argument("--recipe", default="pgd")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--shares", type=int, default=2)
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = load_dataset(given.data)
    assert data.train is not None
    train = data.train.batch(slice(0, given.examples))
    best = dict.fromkeys([(1, 1), (given.shares, 1), (given.shares, given.nproc)], float("inf"))
    for _ in range(given.rounds):
        for shares, nproc in best:
            best[shares, nproc] = min(best[shares, nproc], seconds(train, data.shape, shares, nproc, given))
    table = Table("shares of a batch", "processes", "seconds an epoch", "x of one process without shares")
    for (shares, nproc), taken in best.items():
        table.add_row(str(shares), str(nproc), f"{taken:.2f}", f"{taken / best[1, 1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
