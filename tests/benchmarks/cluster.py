"""How well a plan fills a cluster, on paper: `python tests/benchmarks/cluster.py RUN... --images 10000 --workers 8 64`.

The driver of a run (`audit.execution.parallel`, longest chain first) hands the cells of a plan to W workers that only
let time pass, and a row of a Markdown table is printed for every number of images and of workers. RUN are run folders
whose stores tell how long each kind of cell took; a cell of other images takes as much longer as it has more of them.
Assumed besides, and said by flags: how long a worker takes to start, how long the driver is busy with starting each and
with a cell, and how well a hardening that K workers share uses them. The defaults were measured on two cores of a
virtual machine: the start by `ray_start.py` with one worker of one thread beside its driver, on a cluster that was
there, and the driver's seconds with 12 workers on Ray that answer at once.

Efficiency is the time of one worker over W times that of W workers, their start included.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config import RunConfig, load_config
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.execution.agenda import Agenda
from audit.execution.parallel import ParallelExecutor
from audit.execution.workers import Computed, Event, Job, Ready
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
        start: Seconds from the command to the first worker's first cell.
        each: Seconds that the driver is busy with starting a worker.
        driver: Seconds that the driver is busy with a cell.
        sharing: How well a training uses the workers that share it, in (0, 1].
    """

    workers: int
    start: float
    each: float
    driver: float
    sharing: float = 1.0


class PaperPool:
    """Workers on paper: a cell is there once the seconds have passed that it is said to take.

    Attributes:
        now: Seconds since the command.
    """

    def __init__(self, cluster: Cluster, cost: Callable[[Task], float]) -> None:
        self.size = self.most_together = cluster.workers
        self.now = 0.0
        self._cluster, self._cost, self._driver = cluster, cost, 0.0
        self._coming: list[tuple[float, int, Event]] = []
        self._count = 0

    def start(self, worker: int) -> None:
        self._later(self._cluster.start + worker * self._cluster.each, Ready(worker))

    def together(self, idle: Sequence[int], count: int) -> Sequence[int]:
        return idle[:count] if len(idle) >= count else ()

    def send(self, worker: int, job: Job) -> None:
        self.send_together([worker], job)

    def send_together(self, workers: Sequence[int], job: Job) -> None:
        self._driver = max(self._driver, self.now) + self._cluster.driver
        used = len(workers) * (self._cluster.sharing if len(workers) > 1 else 1.0)
        ends = self._driver + self._cost(job.task) / used
        self._later(ends, Computed(workers[0], Evidence(job.task.cell, "not_applicable", reason="on paper")))
        for worker in workers[1:]:
            self._later(ends, Ready(worker))

    def events(self, timeout: float) -> Sequence[Event]:
        self.now = self._coming[0][0]
        events = []
        while self._coming and self._coming[0][0] == self.now:
            events.append(heapq.heappop(self._coming)[2])
        return events

    def end(self, worker: int) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def _later(self, when: float, event: Event) -> None:
        heapq.heappush(self._coming, (when, self._count, event))
        self._count += 1


def kind_of(cell: Cell) -> tuple[Any, ...]:
    """Cells of one kind take as long an image."""
    part = tuple(cell.settings.get("runs") or ()), "chunk" in cell.settings
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
    told: Mapping[tuple[Any, ...], list[tuple[float, float]]], epochs: float, hardened: float = 1.0, scale: float = 1.0
) -> Callable[[Task], float]:
    """What a cell takes: as those nearest in size of its kind, by the image; a training by the image and the epoch."""

    def cost(task: Task) -> float:
        cell, images = task.cell, amount(task.cell, len(task.examples))
        if cell.study in MODEL_STUDIES:
            times = float((cell.settings.get("training") or {}).get("epochs", 0))
            return scale * epochs * times * len(task.examples) * (4.0 if cell.threat else 1.0)
        of_kind = told.get(kind_of(cell)) or [
            pair
            for kind, pairs in told.items()
            if kind[0] == cell.study.removesuffix("-part") and kind[1] == cell.method
            for pair in pairs
        ]
        if not of_kind:
            raise SystemExit(f"No run tells what {task.label} takes; give one that measured it.")
        nearest = min(abs(size - images) for size, _ in of_kind)
        alike = [(size, seconds) for size, seconds in of_kind if abs(size - images) == nearest]
        size, seconds = (statistics.mean(column) for column in zip(*alike, strict=True))
        longer = hardened if task.role == "hardened" and cell.threat else 1.0
        return scale * longer * seconds * images / size

    return cost


def makespan(plan: AuditPlan, config: RunConfig, cost: Callable[[Task], float], cluster: Cluster) -> float:
    """Seconds from the command to the last evidence, as the driver hands the cells out."""
    agenda = Agenda(plan, config, "longest first", lambda task: cost(task) / task.processes, cluster.workers)
    evidence: dict[str, Evidence] = {}
    pool = PaperPool(cluster, cost)

    def next_task(finished: Task | None = None, *, shortest: bool = False) -> Task | None:
        return agenda.next_task(evidence, [finished] if finished else [], shortest=shortest)

    for task, computed in ParallelExecutor(pool).compute(next_task):
        evidence[task.cell.key] = computed
        agenda.done(task)
    return pool.now


def planned(images: int, words: Sequence[str], *, shared: int, train: int) -> tuple[AuditPlan, RunConfig]:
    """The plan of so many images, all of them attacked and corrupted; with a hardening where workers share one."""
    overrides: dict[str, Any] = {
        "preset": "standard",
        "stop": "all",
        "robustness": {"examples": images},
        "corruptions": {"examples": images},
        "hardening": {"enabled": shared > 0, "batch_size": 64, "nproc": max(1, shared), "shares": max(1, shared)},
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
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all seconds, as of a core that is quiet")
    parser.add_argument("--start", type=float, default=3.4, help="seconds until a worker begins")
    parser.add_argument("--each", type=float, default=0.004, help="seconds of the driver for starting a worker")
    parser.add_argument("--driver", type=float, default=0.004, help="seconds of the driver for a cell")
    parser.add_argument("--price", type=float, default=0.05, help="of an hour of a worker")
    parser.add_argument("--hardened", type=float, default=2.0, help="how many times as long its attacks take")
    parser.add_argument("--shared", type=int, default=0, help="workers that share a hardening; 0 for none")
    parser.add_argument("--sharing", type=float, default=0.9, help="how well it uses them")
    parser.add_argument("--train", type=int, default=60_000, help="training images")
    parser.add_argument("--epoch", type=float, default=0.0, help="seconds an image of a plain epoch; PGD-3 takes four")
    parser.add_argument("--set", nargs="*", default=["chunk=50"], help="keys of the configuration")
    given = parser.parse_args()
    told = seconds_of_kinds(given.runs)
    print("| images | cells | one worker, h | longest cell, s | workers | hours | efficiency | worker hours | cost |")
    print("|---|---|---|---|---|---|---|---|---|")
    for images in given.images:
        cost = cost_of(told, given.epoch, given.hardened, given.scale)
        for workers in given.workers:
            plan, config = planned(images, given.set, shared=min(given.shared, workers), train=given.train)
            alone = given.start + sum(cost(task) + given.driver for task in plan.tasks)
            longest = max(cost(task) for task in plan.tasks)
            cluster = Cluster(workers, given.start, given.each, given.driver, given.sharing)
            seconds = makespan(plan, config, cost, cluster)
            hours, efficiency = workers * seconds / 3600, alone / (workers * seconds)
            print(
                f"| {images:,} | {len(plan.tasks):,} | {alone / 3600:.2f} | {longest:.0f} | {workers:,} "
                f"| {seconds / 3600:.3f} | {efficiency:.2f} | {hours:.1f} | {given.price * hours:.2f} |"
            )
