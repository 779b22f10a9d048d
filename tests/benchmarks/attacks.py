"""Ours against the peers, on the same images, in turn, in one run: robust accuracy, passes, seconds.

    python tests/benchmarks/attacks.py --data fashion-mnist:DIR --images 512

Robust accuracy of every row is judged by the same verifier. Seconds compare only within one run.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peers import PGD_PEERS, Peer, autoattack, installed
from rich.console import Console
from rich.table import Table
from subjects import subjects, under_test
from torch import Tensor, nn

from audit.adversarial.run_battery import run_battery
from audit.adversarial.verify import verify
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.autotune import tune_execution
from audit.models.under_test import ModelUnderTest

CURVE = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Line:
    """One contestant: robust accuracy at each eps, and what all of them cost together."""

    name: str
    robust: tuple[float, ...]
    forwards: int
    backwards: int
    seconds: float


class CountedNet(nn.Module):
    """A net as a user would hand it to a library, with its passes counted."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits: Tensor = self.net(images)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def run_ours(name: str, battery: str, model: ModelUnderTest, batch: Batch, eps: Sequence[float]) -> Line:
    """One battery over the whole sweep."""
    begun = time.perf_counter()
    outcome = run_battery(model, batch, "linf", eps, battery=battery)
    seconds = time.perf_counter() - begun
    robust = tuple(outcome.survived.double().mean(1).tolist())
    return Line(name, robust, outcome.passes.forwards, outcome.passes.backwards, seconds)


def run_peer(name: str, peer: Peer, net: nn.Module, model: ModelUnderTest, batch: Batch, eps: Sequence[float]) -> Line:
    """A peer once for every eps; the verifier's own passes and seconds are not counted against it."""
    counted = CountedNet(net).eval()
    robust, seconds = [], 0.0
    for size in eps:
        begun = time.perf_counter()
        found = peer(counted, batch.images, batch.labels, size)
        seconds += time.perf_counter() - begun
        broken = verify(model, batch, found, ThreatModel("linf", size)).broken
        wrong = model.predictions(batch.images) != batch.labels
        robust.append(float((~(broken | wrong)).double().mean()))
    return Line(name, tuple(robust), counted.forwards, counted.backwards, seconds)


def table(title: str, lines: Sequence[Line], eps: Sequence[float]) -> Table:
    """Each line, with its cost over that of the first."""
    shown = Table(title=title)
    for heading in (
        "",
        *(f"eps {size:g}" for size in eps),
        "forwards",
        "backwards",
        "seconds",
        "passes x",
        "seconds x",
    ):
        shown.add_column(heading, justify="left" if not heading else "right")
    first = lines[0]
    for line in lines:
        shown.add_row(
            line.name,
            *(f"{share:.4f}" for share in line.robust),
            f"{line.forwards:,}",
            f"{line.backwards:,}",
            f"{line.seconds:.1f}",
            f"{(line.forwards + line.backwards) / (first.forwards + first.backwards):.3f}",
            f"{line.seconds / first.seconds:.3f}",
        )
    return shown


def main() -> None:
    """Print one table a net and a protocol."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    console = Console(width=160)
    nets, batch = subjects(
        arguments.data, arguments.images, train_examples=arguments.train_examples, epochs=arguments.epochs
    )
    for name, net in nets.items():
        model = under_test(net, batch)
        tune_execution(model)
        if "pgd" in arguments.tables:
            lines = [
                run_peer(title, peer, net, model, batch, CURVE)
                for title, (package, peer) in PGD_PEERS.items()
                if installed(package)
            ]
            lines.append(run_ours("ours: quick", "quick", model, batch, CURVE))
            console.print(table(f"{name}: a curve of five eps", lines, CURVE))
        if "autoattack" in arguments.tables:
            for eps in arguments.eps:
                lines = [run_peer("pyautoattack", autoattack, net, model, batch, [eps])]
                lines += [run_ours(f"ours: {kind}", kind, model, batch, [eps]) for kind in ("autoattack", "standard")]
                console.print(table(f"{name}: AutoAttack at eps {eps:g}", lines, [eps]))
    absent = [title for title, (package, _) in PGD_PEERS.items() if not installed(package)]
    if absent:
        console.print(f"Not installed here, so not in the tables: {', '.join(absent)}.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--train-examples", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--tables", nargs="+", choices=["pgd", "autoattack"], default=["pgd", "autoattack"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
