"""How well a plan fills a cluster, on paper: `python tests/benchmarks/cluster.py RUN... --images 10000 --workers 8 64`.

It lays the cells of a plan on W workers, in the order in which the driver would (`audit.execution.agenda`, longest
chain first), and prints a row of a Markdown table for every number of images and of workers. Nothing is computed. RUN
are run folders whose stores tell how long each kind of cell took; a cell of other images takes as much longer as it has
more of them. Assumed besides, and said by flags: how long a worker takes to start, how long the driver is busy with a
cell (it alone writes, one cell after another), and how well a hardening on K workers at once uses them.

Efficiency is the time of one worker over W times that of W workers, their start included.
"""

from __future__ import annotations

import argparse
import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config import RunConfig, load_config
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.execution.agenda import Agenda
from audit.planning.build import build_plan
from audit.planning.plan import MODEL_STUDIES, AuditPlan, Task
from audit.planning.run_identity import RunIdentity
from audit.runs.past_costs import examples_of
from audit.storage.store import Store


@dataclass(frozen=True)
class Cluster:
    """What is assumed of it.

    Attributes:
        workers: How many there are.
        start: Seconds from the command to a worker's first cell.
        driver: Seconds that the driver is busy with a cell.
        shared: Workers that one hardening runs on at once.
        sharing: How well it uses them, in (0, 1].
    """

    workers: int
    start: float
    driver: float
    shared: int = 1
    sharing: float = 1.0

    def taken_by(self, task: Task) -> int:
        """The workers that a cell occupies."""
        return min(self.shared, self.workers) if task.cell.study in MODEL_STUDIES else 1


def kind_of(cell: Cell) -> tuple[Any, ...]:
    """Cells of one kind take as long an image."""
    part = str(cell.settings.get("runs")), "chunk" in cell.settings
    return cell.study, cell.method, cell.settings.get("sanity_checks", True), bool(cell.threat), *part


def amount(cell: Cell, images: int) -> float:
    """What the seconds of a cell of a kind are proportional to: its images, or every so many of them."""
    return max(1.0, images / float(cell.settings.get("every", 1)))


def seconds_of_kinds(folders: Sequence[Path]) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """By kind, the images and seconds of the cells in stores."""
    told: defaultdict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for folder in folders:
        for evidence in Store(folder / "store").without_arrays():
            told[kind_of(evidence.cell)].append((amount(evidence.cell, examples_of(evidence.cell)), evidence.seconds))
    return dict(told)


def cost_of(
    told: Mapping[tuple[Any, ...], list[tuple[float, float]]], epochs: float, hardened: float = 1.0
) -> Callable[[Task], float]:
    """What a cell takes: as the nearest in size of its kind, by the image; a training by the image and the epoch."""

    def cost(task: Task) -> float:
        cell, images = task.cell, amount(task.cell, len(task.examples))
        if cell.study in MODEL_STUDIES:
            times = float((cell.settings.get("training") or {}).get("epochs", 0))
            return epochs * times * len(task.examples) * (4.0 if cell.threat else 1.0)
        of_kind = told.get(kind_of(cell)) or [
            pair for kind, pairs in told.items() if kind[:2] == (cell.study, cell.method) for pair in pairs
        ]
        if not of_kind:
            raise SystemExit(f"No run tells what {task.label} takes; give one that measured it.")
        size, seconds = min(of_kind, key=lambda pair: abs(pair[0] - images))
        longer = hardened if task.role == "hardened" and cell.threat else 1.0
        return longer * seconds * images / size

    return cost


def makespan(plan: AuditPlan, config: RunConfig, cost: Callable[[Task], float], cluster: Cluster) -> float:
    """Seconds from the command to the last evidence, under list scheduling."""
    agenda = Agenda(plan, config, "longest first", cost)
    evidence: dict[str, Evidence] = {}
    running: list[tuple[float, int, Task]] = []
    free, now, driver, held, serial = cluster.workers, cluster.start, 0.0, None, 0
    while True:
        while held or (free and (held := agenda.next_task(evidence))):
            if cluster.taken_by(held) > free:
                break
            taken = cluster.taken_by(held)
            driver = max(driver, now) + cluster.driver
            ends = driver + cost(held) / (taken * (cluster.sharing if taken > 1 else 1.0))
            heapq.heappush(running, (ends, serial, held))
            free, held, serial = free - taken, None, serial + 1
        if not running:
            return now
        now, _, task = heapq.heappop(running)
        free += cluster.taken_by(task)
        evidence[task.cell.key] = Evidence(task.cell, "not_applicable", reason="on paper")
        agenda.done(task)


def planned(images: int, words: Sequence[str], *, hardening: bool, train: int) -> tuple[AuditPlan, RunConfig]:
    """The plan of so many images, all of them attacked and corrupted."""
    overrides: dict[str, Any] = {
        "preset": "standard",
        "stop": "all",
        "robustness": {"examples": images},
        "corruptions": {"examples": images},
        "hardening": {"enabled": hardening},
    }
    for word in words:
        key, _, value = word.partition("=")
        table, _, name = key.rpartition(".")
        target = overrides.setdefault(table, {}) if table else overrides
        target[name] = int(value) if value.isdigit() else value
    config = load_config(overrides=overrides)
    classes = tuple(str(label) for label in range(10))
    subject = RunIdentity(classes, (1, 28, 28), "test", images, "cnn-28", "train", train, loaded="file:model")
    return build_plan(config, subject), config


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", nargs="+", type=int, default=[10_000])
    parser.add_argument("--workers", nargs="+", type=int, default=[8, 64, 256, 1024])
    parser.add_argument("--start", type=float, default=8.0, help="seconds until a worker begins")
    parser.add_argument("--driver", type=float, default=0.02, help="seconds of the driver for a cell")
    parser.add_argument("--price", type=float, default=0.05, help="of an hour of a worker")
    parser.add_argument("--hardening", action="store_true", help="harden the model too, and audit that")
    parser.add_argument("--hardened", type=float, default=2.0, help="how many times as long its attacks take")
    parser.add_argument("--shared", type=int, default=1, help="workers that one hardening runs on")
    parser.add_argument("--sharing", type=float, default=0.9, help="how well it uses them")
    parser.add_argument("--train", type=int, default=60_000, help="training images")
    parser.add_argument("--epoch", type=float, default=0.0, help="seconds an image of a plain epoch; PGD-3 takes four")
    parser.add_argument("--set", nargs="*", default=["chunk=50"], help="keys of the configuration")
    given = parser.parse_args()
    told = seconds_of_kinds(given.runs)
    print("| images | cells | one worker, h | longest cell, s | workers | hours | efficiency | worker hours | cost |")
    print("|---|---|---|---|---|---|---|---|---|")
    for images in given.images:
        plan, config = planned(images, given.set, hardening=given.hardening, train=given.train)
        cost = cost_of(told, given.epoch, given.hardened)
        alone = given.start + sum(cost(task) + given.driver for task in plan.tasks)
        longest = max(cost(task) for task in plan.tasks)
        for workers in given.workers:
            cluster = Cluster(workers, given.start, given.driver, given.shared, given.sharing)
            seconds = makespan(plan, config, cost, cluster)
            hours, efficiency = workers * seconds / 3600, alone / (workers * seconds)
            print(
                f"| {images:,} | {len(plan.tasks):,} | {alone / 3600:.2f} | {longest:.0f} | {workers:,} "
                f"| {seconds / 3600:.3f} | {efficiency:.2f} | {hours:.1f} | {given.price * hours:.2f} |"
            )
