"""`audit plan`: what a run would compute, and what its store already knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli.options import ConfigFile, Out, command, parse_duration
from audit.cli.terminal import Terminal
from audit.config.flags import AUDIT_FLAGS

if TYPE_CHECKING:
    from audit.config import RunConfig
    from audit.planning.cost import CostEstimate
    from audit.planning.time_budget import BudgetFit
    from audit.runs.throughput import Throughput


@command(*AUDIT_FLAGS, any_key=True)
def plan(
    terminal: Terminal,
    overrides: dict[str, Any],
    config: ConfigFile = None,
    within: Annotated[
        str | None,
        typer.Option("--within", help="Say with how many examples the run takes this long at most: 90s, 10m, 2h."),
    ] = None,
    out: Out = Path("audit-run"),
) -> None:
    """List the cells of a run without running them: study, method, model, examples, passes at most, stored or not.

    Below stands what is not stored yet would cost here at most, by a few passes timed on this machine, and the keys
    that make it cheaper. Images that break or close early cost less; training is not in it. With --within, the flags
    that keep the run within that time: paste them to `audit run`.

    [bold]Examples[/]

      audit plan

      audit plan audit.toml --preset standard --json

      audit plan --model net.safetensors --data folder:photos --within 20m
    """
    from audit.config import load_config
    from audit.planning.build import build_plan
    from audit.planning.cost import estimate_cost, max_task_passes
    from audit.planning.time_budget import scale_to_budget
    from audit.runs.folder import RunFolder
    from audit.runs.setup import set_up
    from audit.runs.throughput import measure_throughput

    limit = parse_duration(within, "--within")
    setup, store = set_up(load_config(config, overrides=overrides)), RunFolder(out).store
    rows: list[dict[str, Any]] = [
        {
            "wave": task.wave,
            "study": task.cell.study,
            "method": task.cell.method,
            "model": task.role,
            "split": task.examples.split,
            "examples": len(task.examples),
            "passes": None if (most := max_task_passes(task, setup.subject)) is None else asdict(most),
            "stored": store.has(task.cell.key),
            "key": task.cell.key,
        }
        for task in build_plan(setup.config, setup.subject).tasks
    ]
    throughput = measure_throughput(setup)

    def missing_cost(config: RunConfig) -> CostEstimate:
        tasks = build_plan(config, setup.subject).tasks
        return estimate_cost([task for task in tasks if not store.has(task.cell.key)], setup.subject)

    costs = missing_cost(setup.config)
    lines, seconds = cost_lines(costs, throughput), round(throughput.seconds(costs.passes), 1)
    document: dict[str, Any] = {
        "cells": rows,
        "at_most": {**asdict(costs.passes), "seconds": seconds, "untold_cells": costs.unknown},
    }
    if limit is not None:
        fit = scale_to_budget(setup.config, lambda config: throughput.seconds(missing_cost(config).passes), limit)
        document["within"] = {"counts": fit.counts, "seconds": round(fit.seconds, 1), "enough": fit.within_limit}
        lines.append(fit_line(fit, within or ""))
    terminal.emit(document, lambda: _show(rows, out, lines, terminal))


def _show(rows: Sequence[Mapping[str, Any]], out: Path, lines: Sequence[str], terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("wave", "study", "method", "model", "examples", "passes", "stored", "key", box=None)
    for row in rows:
        table.add_row(
            str(row["wave"]),
            row["study"],
            escape(row["method"]),
            row["model"],
            f"{row['examples']} {row['split']}",
            f"{sum(row['passes'].values()):,}" if row["passes"] else "–",
            "yes" if row["stored"] else "no",
            row["key"][:8],
        )
    terminal.stdout.print(table)
    terminal.stdout.print(f"{len(rows)} cells, {sum(row['stored'] for row in rows)} of them in the store of {out}.")
    for line in lines:
        terminal.stdout.print(line, soft_wrap=True)


def cost_lines(costs: CostEstimate, throughput: Throughput) -> list[str]:
    """What the cells that are not stored cost at most, then the three dearest studies.

    Args:
        costs: The passes, by study too.
        throughput: How long a pass takes here.

    Returns:
        Lines of text, a study with the configuration keys that make it cheaper; none where nothing costs anything.
    """
    from audit.planning.cost import cost_keys

    if not costs.by_study:
        return []
    lines = [
        f"What is missing takes at most {costs.passes.forwards:,} forwards and {costs.passes.backwards:,} gradients: "
        f"{_duration(throughput.seconds(costs.passes))} at {1000 * throughput.forward:.3g} ms a forward and "
        f"{1000 * throughput.gradient:.3g} ms a gradient here. Not counted: {costs.unknown} cells whose cost nobody "
        "can tell, such as training."
    ]
    costliest = sorted(costs.by_study, key=lambda study: -throughput.seconds(costs.by_study[study]))[:3]
    for study in costliest:
        seconds = throughput.seconds(costs.by_study[study])
        lines.append(f"  {study}: {_duration(seconds)}; cheaper by {cost_keys(study)}")
    return lines


def fit_line(fit: BudgetFit, limit: str) -> str:
    """The flags that keep a run within a time.

    Args:
        fit: The numbers of examples, and how long the run takes with them.
        limit: The time as the user wrote it.

    Returns:
        A sentence, which says so when no flags do.
    """
    flags = " ".join(f"--set {name}={number}" for name, number in fit.counts.items())
    most = _duration(fit.seconds)
    if not fit.within_limit:
        return f"No number of examples makes it {limit}: with {flags} it takes {most} at most. Choose fewer methods."
    return f"Within {limit}: {flags} ({most} at most)." if flags else f"It stays within {limit} as it is."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
