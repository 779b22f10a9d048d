"""The main job: prepare, plan, run what is missing, judge, write the document and its renderings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from audit.config import RunConfig
from audit.document.schema import AuditDocument
from audit.execution.local import LocalExecutor
from audit.execution.runner import RunCallback, run_plan
from audit.planning.build import Scope, build_plan
from audit.planning.plan import AuditPlan
from audit.report.document import build_document, to_json
from audit.report.html import render_html
from audit.results.run_results import RunResults
from audit.runs.export import export_models
from audit.runs.folder import RunFolder, open_run
from audit.runs.metadata import collect_metadata
from audit.runs.setup import RunSetup, set_up
from audit.runs.validation import wants_tensorboard
from audit.storage.store import write_atomically
from audit.topics.compression.section import latencies_of, read_latencies


@dataclass(frozen=True)
class AuditRun:
    """What a run leaves: its folder, its document, and every cell's evidence."""

    folder: RunFolder
    document: AuditDocument
    dossier: RunResults


def run_audit(
    config: RunConfig,
    out: Path,
    *,
    scope: Scope = "audit",
    watcher: RunCallback | None = None,
    stopping: Callable[[], bool] = lambda: False,
    told: Callable[[RunSetup], None] = lambda prepared: None,
) -> AuditRun:
    """Run `config` into the folder `out`; whatever its store holds already is not computed again.

    Raises the errors of `audit.core.errors`; after any of them the same call goes on from what was finished.
    """
    prepared = set_up(config)
    plan = build_plan(prepared.config, prepared.subject, scope)
    told(prepared)
    with open_run(out) as folder:
        return _run_in(folder, prepared, plan, watcher or RunCallback(), stopping)


def _run_in(
    folder: RunFolder, prepared: RunSetup, plan: AuditPlan, watcher: RunCallback, stopping: Callable[[], bool]
) -> AuditRun:
    begun = datetime.now(UTC)
    clock = time.monotonic()
    engine = LocalExecutor(
        dataset=prepared.dataset,
        store=folder.store,
        seed=prepared.config.seed,
        device=prepared.device,
        fresh=prepared.fresh,
        loaded=prepared.wrapped(),
        callback=watcher,
        stopping=stopping,
        tensorboard=folder.models if wants_tensorboard(prepared.config) else None,
    )
    dossier = run_plan(plan, folder.store, engine, watcher)
    export_models(folder, dossier, prepared.config.data, cut=prepared.loaded is not None and prepared.loaded.cut)
    document = build_document(dossier, prepared.config, collect_metadata(prepared, dossier))
    write_atomically(folder.document, to_json(document))
    write_atomically(folder.timing, _timing(begun, time.monotonic() - clock, dossier))
    write_atomically(folder.report, render_html(document, latencies=read_latencies(folder.timing)))
    return AuditRun(folder, document, dossier)


def _timing(begun: datetime, seconds: float, dossier: RunResults) -> str:
    cells = {
        f"{task.label} · {task.cell.key[:12]}": round(dossier.evidence[task.cell.key].seconds, 3)
        for task in dossier.plan.tasks
        if task.cell.key in dossier.evidence
    }
    body = {
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "cell_seconds": cells,
        "latency": latencies_of(dossier),
    }
    return json.dumps(body, indent=2) + "\n"
