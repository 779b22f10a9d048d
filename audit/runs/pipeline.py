"""The audit of a configuration, from its data to the report in a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config import RunConfig
from audit.core.errors import Interrupted
from audit.document.schema import AuditDocument
from audit.execution.runner import RunCallback, run_plan
from audit.execution.workers import WorkerPool
from audit.planning.build import Scope, build_plan
from audit.planning.plan import AuditPlan
from audit.report.document import build_document, to_json
from audit.results.queries import first_entries
from audit.results.run_results import RunResults
from audit.runs.clock import RunClock
from audit.runs.engine import choose_engine, open_pool, suited_jobs
from audit.runs.export import export_data_issues, export_models
from audit.runs.folder import RunFolder, open_run
from audit.runs.metadata import collect_metadata
from audit.runs.ray_actors import RayActors, begin_actors
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from audit.runs.worker_threads import threads_of_workers
from audit.storage.store import write_atomically
from audit.topics.compression.section import latencies_of, read_latencies

if TYPE_CHECKING:
    from audit.runs.watch import ReportWatcher

_ENDED = {"time": "The time ended", "user": "Stopped as asked"}


@dataclass(frozen=True)
class AuditRun:
    """A finished run.

    Attributes:
        folder: Where its files are.
        document: Its audit.json.
        results: The plan, and the evidence of every cell.
        faults: Which parts of the report could not be shown, a sentence each.

    A run that was cut short is finished in this sense: its report says what is missing.
    """

    folder: RunFolder
    document: AuditDocument
    results: RunResults
    faults: tuple[str, ...] = ()


def run_audit(
    config: RunConfig,
    out: Path,
    *,
    scope: Scope = "audit",
    callback: RunCallback | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_setup: Callable[[RunSetup], None] = lambda setup: None,
    within: float | None = None,
    watch: bool = False,
    forks: bool = False,
    actors: RayActors | None = None,
) -> AuditRun:
    """Run a configuration into a folder; what its store holds already is not computed again.

    Where the run is stopped, or its time ends, the report is written of what is there, and says what is missing.

    Args:
        config: The configuration.
        out: The run folder, made where it is absent.
        scope: How much of the plan to run.
        callback: Called as the run goes on.
        should_stop: Asked after every batch; True ends the run.
        on_setup: Called once data and model are read, before anything is written.
        within: Seconds after which no more is computed; it then begins with the least that each part needs. None for a
            run that ends by itself.
        watch: Whether OUT/live.html shows the report as it grows.
        forks: Whether workers may begin as copies of this process, as suits one that runs nothing else; their number
            is then chosen where the configuration does not say it.
        actors: Workers on Ray that have begun (`audit.runs.ray_actors.begin_actors`), which this call ends; None for
            those that the configuration asks for to begin now.

    Raises:
        Interrupted: The run was stopped, or its time ended, before there was anything to report.
        AuditError: Any other of `audit.core.errors`; the same call goes on from what was finished.
    """
    clock = RunClock(within, should_stop)
    with threads_of_workers(config), ExitStack() as held:
        actors = actors or begin_actors(config)
        if actors is not None:
            held.callback(actors.close)
        setup = set_up(config)
        if forks and scope == "audit" and within is None and (jobs := suited_jobs(setup)) != config.jobs:
            config = config.model_copy(update={"jobs": jobs})
            held.enter_context(threads_of_workers(config))
            setup = replace(setup, requested=config)
        plan = build_plan(setup.config, setup.subject, scope)
        on_setup(setup)
        pool = open_pool(setup, plan, RunFolder(out), actors=actors, forks=forks)  # may be refused
        if pool is not None:
            held.callback(pool.close)
        folder = held.enter_context(open_run(out))
        callback = callback or RunCallback()
        if not watch:
            return _run_in(folder, setup, plan, callback, clock, pool)
        watcher = _watcher(folder, setup, plan, callback)
        try:
            finished = _run_in(folder, setup, plan, watcher, clock, pool)
        except BaseException as fault:
            watcher.give_up(fault)
            raise
        watcher.lead_on(folder.report.name)
        return finished


def _watcher(folder: RunFolder, setup: RunSetup, plan: AuditPlan, callback: RunCallback) -> ReportWatcher:
    from audit.runs.watch import ReportWatcher

    def build(results: RunResults) -> AuditDocument:
        return build_document(results, setup.config, collect_metadata(setup, results))

    return ReportWatcher(callback, folder.live, build, RunResults(plan, {}), config=setup.config)


def _run_in(
    folder: RunFolder,
    setup: RunSetup,
    plan: AuditPlan,
    callback: RunCallback,
    clock: RunClock,
    pool: WorkerPool | None,
) -> AuditRun:
    started = datetime.now(UTC)
    engine = choose_engine(folder, setup, plan, callback, clock, pool)
    results = run_plan(
        plan,
        folder.store,
        engine.executor,
        callback,
        setup.config,
        order=engine.order,
        cost=engine.cost,
        workers=pool.size if pool is not None else 1,
        cut_by=clock.cut_by,
    )
    if results.cut_by and not first_entries(results):
        raise Interrupted(f"{_ENDED[results.cut_by]} before there was anything to report; what was finished is kept.")
    export_models(folder, results, setup.config.data, cut=setup.loaded is not None and setup.loaded.cut)
    export_data_issues(folder, results)
    document = build_document(results, setup.config, collect_metadata(setup, results))
    write_atomically(folder.document, to_json(document), flag="--out")
    write_atomically(folder.timing, _timing(started, clock.elapsed, results), flag="--out")
    from audit.report.html import render_html  # its charts are imported once there is something to show

    faults: list[str] = []
    page = render_html(document, latencies=read_latencies(folder.timing), on_fault=faults.append)
    write_atomically(folder.report, page, flag="--out")
    return AuditRun(folder, document, results, tuple(faults))


def _timing(started: datetime, seconds: float, results: RunResults) -> str:
    cells = {
        f"{task.label} · {task.cell.key[:12]}": round(results.evidence[task.cell.key].seconds, 3)
        for task in results.plan.tasks
        if task.cell.key in results.evidence
    }
    body = {
        "begun": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "cell_seconds": cells,
        "latency": latencies_of(results),
    }
    return json.dumps(body, indent=2) + "\n"
