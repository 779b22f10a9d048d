"""Our training loop against the loop people write by hand, and against one tuned by hand: same net, passes, batch.

    python tests/benchmarks/training_loop.py --examples 4000 --rounds 3

The three run in turn, round after round; the fastest round of each counts. Seconds compare within one run only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.models.architecture import build
from audit.training.fit import fit

EPS, STEPS, RELATIVE_STEP, BATCH = 0.1, 3, 0.5, 64


def tutorial_net() -> nn.Sequential:
    """cnn-28 as the tutorials write it."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def plain(batch: Batch) -> float:
    """PGD training in the default layout, weight gradients switched on throughout."""
    net = tutorial_net()
    return by_hand(net, torch.optim.Adam(net.parameters(), 1e-3), batch, tuned=False)


def tuned(batch: Batch) -> float:
    """The same in channels_last, weights frozen while the adversary moves, fused optimiser, pooling before ReLU."""
    net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).to(memory_format=torch.channels_last)
    return by_hand(net, torch.optim.Adam(net.parameters(), 1e-3, fused=True), batch, tuned=True)


def by_hand(net: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, *, tuned: bool) -> float:
    """Seconds for one epoch."""
    begun = time.perf_counter()
    order = torch.randperm(len(batch))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        index = order[start : start + BATCH]
        images, labels = batch.images[index], batch.labels[index]
        attacked = (images + (torch.rand_like(images) * 2 - 1) * EPS).clamp(0, 1)
        net.requires_grad_(not tuned)
        for _ in range(STEPS):
            attacked = climb(net, attacked, images, labels)
        net.requires_grad_(True)
        optimizer.zero_grad()
        cross_entropy(net((attacked - 0.5) / 0.25), labels).backward()
        optimizer.step()
    return time.perf_counter() - begun


def climb(net: nn.Module, attacked: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """One step of projected ascent."""
    leaf = attacked.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(net((leaf - 0.5) / 0.25), labels), leaf)
    moved = leaf.detach() + RELATIVE_STEP * EPS * gradient.sign()
    return torch.max(torch.min(moved, images + EPS), images - EPS).clamp(0, 1)


def ours(batch: Batch) -> float:
    """One epoch of `audit.training.fit.fit`, the checks after the epoch at their smallest."""
    settings = TrainingConfig(
        recipe="pgd", recipe_settings={"steps": STEPS, "relative_step": RELATIVE_STEP},
        epochs=1, batch_size=BATCH, held_out=1 / len(batch), probe_examples=1, probe_steps=1,
    )  # fmt: skip
    net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0)
    return fit(net, batch, settings, classes=10, threat=ThreatModel("linf", EPS), mean=0.5, std=0.25).seconds[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    train = load_dataset("sample").train
    assert train is not None
    batch = train.batch(slice(0, given.examples))
    loops: dict[str, Callable[[Batch], float]] = {"plain NCHW": plain, "tuned by hand": tuned, "audit": ours}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(given.rounds):
        for name, loop in loops.items():
            seconds[name].append(loop(batch))
    table = Table("loop", "seconds an epoch", "ours is x of it")
    best = {name: min(times) for name, times in seconds.items()}
    for name, value in best.items():
        table.add_row(name, f"{value:.2f}", f"{best['audit'] / value:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
