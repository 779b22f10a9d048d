"""`audit plan`: what a run would compute, what that is expected to cost, and what its store already knows."""

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
    from audit.planning.expectation import Expectation
    from audit.planning.experience import Experience
    from audit.planning.plan import Task
    from audit.planning.time_budget import BudgetFit


@command(*AUDIT_FLAGS, any_key=True)
def plan(
    terminal: Terminal,
    overrides: dict[str, Any],
    config: ConfigFile = None,
    within: Annotated[
        str | None,
        typer.Option("--within", help="Say with how many examples the run should take this long: 90s, 10m, 2h."),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe/--no-probe", help="Try the model on a few images, for about a minute at most, to tell its cost."
        ),
    ] = True,
    out: Out = Path("audit-run"),
) -> None:
    """List the cells of a run without running them: study, method, model, examples, passes, stored or not.

    Below stands what the cells that are not stored yet should cost here, training included: by what this model's cells
    in the store cost, else by a probe of a few images. Apart from it stands the most that they can, and the keys that
    make the dearest cheaper. With --within, the flags with which the run should take that time: paste them to
    `audit run`.

    [bold]Examples[/]

      audit plan

      audit plan audit.toml --preset standard --json

      audit plan --model net.safetensors --data folder:photos --within 20m
    """
    from audit.cli.run_command import introduce
    from audit.config import load_config
    from audit.planning.build import build_plan
    from audit.planning.cost import estimate_cost, max_task_passes
    from audit.planning.expectation import expect_costs, most_seconds
    from audit.planning.foreseen import unlikely_cells
    from audit.planning.time_budget import scale_to_budget
    from audit.runs.folder import RunFolder
    from audit.runs.probe import learn_costs
    from audit.runs.setup import set_up

    limit = parse_duration(within, "--within")
    setup, store = set_up(load_config(config, overrides=overrides)), RunFolder(out).store
    introduce(setup, terminal)
    whole = build_plan(setup.config, setup.subject)

    def missing(tasks: Sequence[Task]) -> list[Task]:
        return [task for task in tasks if not store.has(task.cell.key)]

    experience = learn_costs(setup, whole, store, probe=probe)
    todo = missing(whole.tasks)
    unlikely = unlikely_cells(whole, setup.config, experience)
    expected = expect_costs(todo, setup.subject, experience, unlikely)
    costs = estimate_cost(todo, setup.subject, experience.draws)
    most = most_seconds(todo, setup.subject, experience)
    rows: list[dict[str, Any]] = [
        {
            "wave": task.wave,
            "study": task.cell.study,
            "method": task.cell.method,
            "model": task.role,
            "split": task.examples.split,
            "examples": len(task.examples),
            "passes": None
            if (bound := max_task_passes(task, setup.subject, experience.draws)) is None
            else asdict(bound),
            "expected": None if (cost := expected.by_task.get(task.cell.key)) is None else asdict(cost),
            "stored": store.has(task.cell.key),
            "key": task.cell.key,
        }
        for task in whole.tasks
    ]
    lines = [*expected_lines(expected, experience), *most_lines(costs, most, experience)]
    document: dict[str, Any] = {
        "cells": rows,
        "expected": {
            **asdict(expected.passes),
            "seconds": round(expected.seconds, 1),
            "seconds_by_study": {study: round(seconds, 1) for study, seconds in expected.by_study.items()},
            "images_probed": experience.probed,
            "cells_by_basis": dict(expected.bases),
            "untold_cells": expected.unknown,
        },
        "at_most": {**asdict(costs.passes), "seconds": round(most, 1), "untold_cells": costs.unknown},
    }
    if limit is not None:

        def seconds(config: RunConfig) -> float:
            reduced = build_plan(config, setup.subject)
            wanted = unlikely_cells(reduced, config, experience)
            return expect_costs(missing(reduced.tasks), setup.subject, experience, wanted).seconds

        fit = scale_to_budget(setup.config, seconds, limit)
        document["within"] = {"counts": fit.counts, "seconds": round(fit.seconds, 1), "enough": fit.within_limit}
        lines.append(fit_line(fit, within or ""))
    terminal.emit(document, lambda: _show(rows, out, lines, terminal))


def _show(rows: Sequence[Mapping[str, Any]], out: Path, lines: Sequence[str], terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    columns = ("wave", "study", "method", "model", "examples", "expected", "at most", "stored", "key")
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(
            str(row["wave"]),
            row["study"],
            escape(row["method"]),
            row["model"],
            f"{row['examples']} {row['split']}",
            _expected_words(row["expected"]),
            f"{sum(row['passes'].values()):,}" if row["passes"] is not None else "–",
            "yes" if row["stored"] else "no",
            row["key"][:8],
        )
    terminal.stdout.print(table)
    terminal.stdout.print(f"{len(rows)} cells, {sum(row['stored'] for row in rows)} of them in the store of {out}.")
    for line in lines:
        terminal.stdout.print(line, soft_wrap=True)


def _expected_words(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "–"
    return "unlikely" if cost["basis"] == "unlikely" else f"{sum(cost['passes'].values()):,}"


def expected_lines(expected: Expectation, experience: Experience) -> list[str]:
    """What the cells that are not stored should cost, on what that rests, then the three dearest studies.

    Args:
        expected: Their cost.
        experience: What it rests on.

    Returns:
        Lines of text, a study with the configuration keys that make it cheaper; none where nothing is missing.
    """
    from audit.planning.cost import cost_keys

    if not expected.by_task:
        return []
    passes, stored = expected.passes, sum(cost.source == "store" for cost in experience.cells)
    grounds = [f"{stored} cells of these models in the store"] if stored else []
    grounds += [f"{experience.probed} images probed"] if experience.probed else []
    grounds += ["what is usual of models that do not exist yet"] if expected.bases.get("usual") else []
    if skipped := expected.bases.get("unlikely"):
        grounds.append(f"{skipped} cells that the rule for stopping is likely not to want")
    lines = [
        f"What is missing should take {duration(expected.seconds)} here: {passes.forwards:,} forwards and "
        f"{passes.backwards:,} gradients, by {', '.join(grounds) or 'what its methods declare'}."
    ]
    for study in sorted(expected.by_study, key=lambda study: -expected.by_study[study])[:3]:
        cheaper = f"; cheaper by {keys}" if (keys := cost_keys(study)) else ""
        lines.append(f"  {study}: {duration(expected.by_study[study])}{cheaper}")
    return lines


def most_lines(costs: CostEstimate, seconds: float, experience: Experience) -> list[str]:
    """What the cells that are not stored cost at most.

    Args:
        costs: The most passes.
        seconds: How long they take.
        experience: How fast a pass is.

    Returns:
        A line of text; none where nothing is missing.
    """
    if not costs.by_study and not costs.unknown:
        return []
    throughput = experience.throughput
    untold = f" Not counted: {costs.unknown} cells whose most nobody can tell." if costs.unknown else ""
    return [
        f"At most: {duration(seconds)}, if every attack takes its last step on every image: "
        f"{costs.passes.forwards:,} forwards and {costs.passes.backwards:,} gradients at "
        f"{1000 * throughput.forward:.3g} ms and {1000 * throughput.gradient:.3g} ms.{untold}"
    ]


def fit_line(fit: BudgetFit, limit: str) -> str:
    """The flags with which a run should take a time.

    Args:
        fit: The numbers of examples, and how long the run should take with them.
        limit: The time as the user wrote it.

    Returns:
        A sentence, which says so when no flags do.
    """
    flags = " ".join(f"--set {name}={number}" for name, number in fit.counts.items())
    least = duration(fit.seconds)
    if not fit.within_limit:
        return f"No number of examples makes it {limit}: with {flags} it should take {least}. Choose fewer methods."
    return f"Within {limit}: {flags} (about {least})." if flags else f"It should stay within {limit} as it is."


def duration(seconds: float) -> str:
    """A length of time in words, such as "80 s", "12 min" or "3.4 h".

    Args:
        seconds: Its length.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
