"""From the command to the first cell of a Ray worker: `python tests/benchmarks/ray_start.py --workers 1 2 --rounds 5`.

For a machine that does nothing else. Each round runs `audit run --engine ray --jobs N` in a process of its own, on Ray
that the command starts or, with --address, on a cluster that is there (`ray start --head`), until every worker has
begun a cell, and notes when the parts of driver and workers were done. Printed are the medians over rounds of the
seconds since the command, those of workers of the last of them. What follows `--` are flags of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.runs.ray_worker import RayWorker

ROOT = Path(__file__).parents[2]
LOG = "AUDIT_RAY_START_LOG"
"""The file that the parts of one round write to."""


def noted(part: str, log: str, when: float | None = None) -> None:
    """Write down that a part is done."""
    with open(log, "a") as file:
        file.write(json.dumps([part, when or time.time(), time.process_time()]) + "\n")


def noting(function: Callable[..., Any], part: str, log: str) -> Callable[..., Any]:
    """A function that also writes down when it was called and when it was done."""

    def run(*args: Any, **kwargs: Any) -> Any:
        noted(f"{part} begins", log)
        answer = function(*args, **kwargs)
        noted(f"{part} done", log)
        return answer

    return run


def process_began() -> float:
    """When this process was started, on Linux."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


class NotingWorker(RayWorker):
    """A worker that writes down when its parts are done."""

    log = os.environ.get(LOG, "")

    def __init__(self) -> None:
        """As of `RayWorker`."""
        noted("worker: process begins", self.log, process_began())
        noted("worker: actor made", self.log)
        super().__init__()

    def prepare(self) -> None:
        """As of `RayWorker`."""
        from audit.core.startup import prepare_process

        prepare_process()
        import torch  # noqa: F401

        noted("worker: torch imported", self.log)
        from audit.runs import worker

        noted("worker: audit imported", self.log)
        worker.set_up = noting(worker.set_up, "worker: data and model", self.log)
        worker.require_same = noting(worker.require_same, "worker: comparison", self.log)
        super().prepare()

    def set_up(self, packed: bytes) -> Exception | None:
        """As of `RayWorker`."""
        noted("worker: set up begins", self.log)
        answer = super().set_up(packed)
        noted("worker: ready", self.log)
        return answer

    def compute(self, job: Any, inputs: Any) -> Any:
        """As of `RayWorker`."""
        noted("worker: first cell begins", self.log)
        return super().compute(job, inputs)


def driver(words: list[str], workers: int) -> None:
    """Run a command whose parts write down when they are done, until every worker has begun a cell."""
    log = os.environ[LOG]
    noted("python started", log)
    from audit.core.startup import prepare_process

    prepare_process()
    from audit.runs import ray_actors

    ray_actors.RayWorker = NotingWorker  # type: ignore[misc]
    ray_actors.connect = noting(ray_actors.connect, "connection", log)
    begin_actors = noting(ray_actors.begin_actors, "actors", log)

    def begin(config: Any) -> Any:
        actors = begin_actors(config)
        note_the_rest(workers, log)
        return actors

    ray_actors.begin_actors = begin
    from audit.cli.app import app

    app(words, prog_name="audit")


def note_the_rest(workers: int, log: str) -> None:
    """Have the parts that follow the start of the workers note when they are done."""
    from audit.runs import engine, pipeline
    from audit.runs.ray_pool import RayPool

    noted("audit imported", log)
    begun: set[int] = set()
    computed: set[int] = set()
    pipeline.set_up = noting(pipeline.set_up, "data and model", log)
    pipeline.build_plan = noting(pipeline.build_plan, "plan", log)
    engine.learn_costs = noting(engine.learn_costs, "costs", log)
    engine.expect_costs = noting(engine.expect_costs, "expected costs", log)
    send, events = RayPool.send, RayPool.events
    RayPool.start = noting(RayPool.start, "start of a worker", log)  # type: ignore[method-assign]

    def noted_send(self: Any, worker: int, job: Any) -> None:
        if worker not in begun:
            noted("driver sends first cell", log)
        begun.add(worker)
        send(self, worker, job)

    def noted_events(self: Any, timeout: float) -> Any:
        there = events(self, timeout)
        computed.update(event.worker for event in there if type(event).__name__ in ("Computed", "Progressed"))
        for event in there:
            if type(event).__name__ == "Ready":
                noted("driver hears ready", log)
        if len(computed) == workers:
            noted("over", log)
            raise SystemExit(0)
        return there

    RayPool.send, RayPool.events = noted_send, noted_events  # type: ignore[method-assign]


def one_round(words: list[str], workers: int, folder: Path) -> dict[str, tuple[float, float]]:
    """By part, the seconds since the command and the CPU seconds of its process; of several workers the most."""
    log = tempfile.mkstemp(dir=folder)[1]
    environment = {**os.environ, LOG: log, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begun = time.time()
    done = subprocess.run(
        [sys.executable, __file__, "--driver", "--workers", str(workers), "--", *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    times: defaultdict[str, float] = defaultdict(float)
    processor: dict[str, float] = {}
    firsts: dict[str, int] = {}
    for line in Path(log).read_text().splitlines():
        part, when, cpu = json.loads(line)
        firsts[part] = firsts.get(part, 0) + 1
        if "cell" not in part or firsts[part] <= workers:
            times[part] = max(times[part], when - begun)
            processor[part] = max(processor.get(part, 0.0), cpu)
    if "over" not in times:
        raise SystemExit(f"The run ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return {part: (times[part], processor[part]) for part in times}


def median_of(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The medians of both."""
    return statistics.median(wall for wall, _ in pairs), statistics.median(cpu for _, cpu in pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--address", default="", help="of a cluster that is there, as HOST:PORT")
    parser.add_argument("--model", type=Path, help="weights of a cnn-28")
    parser.add_argument("--driver", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help="flags of `audit run`, after --")
    given = parser.parse_args()
    if given.driver:
        driver(given.words, given.workers[0])
        sys.exit()
    where = "ray" + (f":{given.address}" if given.address else "")
    model = ["--model", str(given.model.resolve()), "--architecture", "cnn-28"]
    medians: dict[int, dict[str, tuple[float, float]]] = {}
    for workers in given.workers:
        rounds = []
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as name:
                out = ["--out", f"{name}/run", "--engine", where, "--jobs", str(workers)]
                rounds.append(one_round(["run", *model, *out, *given.words, "--quiet"], workers, Path(name)))
        medians[workers] = {part: median_of([r[part] for r in rounds if part in r]) for part in rounds[0]}
    print(f"| seconds since the command (CPU) | {' | '.join(f'{workers} workers' for workers in medians)} |")
    print("|---|" + "---|" * len(medians))
    first = medians[given.workers[0]]
    for part in sorted(first, key=lambda part: first[part]):
        seconds = [f"{wall:.2f} ({cpu:.2f})" for wall, cpu in (parts[part] for parts in medians.values())]
        print(f"| {part} | {' | '.join(seconds)} |")
