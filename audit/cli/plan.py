"""`audit plan`: what a run would compute, and what its store already knows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context

if TYPE_CHECKING:
    from audit.config import RunConfig
    from audit.planning.cost import CostEstimate
    from audit.planning.time_budget import BudgetFit
    from audit.runs.throughput import Throughput


def plan(
    config: flag.ConfigFile = None,
    data: flag.Data = None,
    model: flag.Model = None,
    architecture: flag.Architecture = None,
    mean: flag.Mean = None,
    std: flag.Std = None,
    trust: flag.Trust = None,
    image_size: flag.ImageSize = None,
    crop: flag.Crop = None,
    grayscale: flag.Grayscale = None,
    labels_map: flag.LabelsMap = None,
    strict: flag.Strict = None,
    preset: flag.Preset = None,
    norm: flag.NormFlag = None,
    eps: flag.EpsFlag = None,
    battery: flag.Battery = None,
    examples: flag.Examples = None,
    harden: flag.Harden = None,
    only: flag.Only = None,
    detail: flag.Detail = None,
    images: flag.Images = None,
    settings: flag.Set = None,
    seed: flag.Seed = None,
    device: flag.Device = None,
    within: Annotated[
        str | None,
        typer.Option("--within", help="Say with how many examples the run takes this long at most: 90s, 10m, 2h."),
    ] = None,
    out: flag.Out = Path("audit-run"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
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
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from rich.markup import escape
        from rich.table import Table

        from audit.config import load_config
        from audit.planning.build import build_plan
        from audit.planning.cost import estimate_cost, max_passes
        from audit.planning.time_budget import scale_to_budget
        from audit.runs.folder import RunFolder
        from audit.runs.setup import set_up
        from audit.runs.throughput import measure_throughput

        limit = flag.parse_duration(within, "--within")

        flags = flag.data_and_model_overrides(
            data=data,
            model=model,
            architecture=architecture,
            mean=mean,
            std=std,
            trust=trust,
            image_size=image_size,
            crop=crop,
            grayscale=grayscale,
            labels_map=labels_map,
            strict=strict,
            seed=seed,
            device=device,
        ) | flag.evaluation_overrides(
            norm=norm,
            eps=eps,
            battery=battery,
            examples=examples,
            harden=harden,
            only=only,
            detail=detail,
            images=images,
        )
        chosen = load_config(config, preset=preset, overrides=flag.overrides(flags, settings))
        prepared, store = set_up(chosen), RunFolder(out).store
        tasks = build_plan(prepared.config, prepared.subject).tasks
        rows: list[dict[str, Any]] = [
            {
                "wave": task.wave,
                "study": task.cell.study,
                "method": task.cell.method,
                "model": task.role,
                "split": task.examples.split,
                "examples": len(task.examples),
                "passes": None if (most := max_passes(task, prepared.subject)) is None else asdict(most),
                "stored": store.has(task.cell.key),
                "key": task.cell.key,
            }
            for task in tasks
        ]
        pace = measure_throughput(prepared)

        def missing(config: RunConfig) -> CostEstimate:
            planned = build_plan(config, prepared.subject).tasks
            return estimate_cost([task for task in planned if not store.has(task.cell.key)], prepared.subject)

        costs = missing(prepared.config)
        fitted = None
        if limit is not None:
            fitted = scale_to_budget(prepared.config, lambda config: pace.seconds(missing(config).passes), limit)

        def show() -> None:
            table = Table("wave", "study", "method", "model", "examples", "passes", "stored", "key", box=None)
            for row in rows:
                examples = f"{row['examples']} {row['split']}"
                stored = "yes" if row["stored"] else "no"
                table.add_row(
                    str(row["wave"]),
                    row["study"],
                    escape(row["method"]),
                    row["model"],
                    examples,
                    f"{sum(row['passes'].values()):,}" if row["passes"] else "–",
                    stored,
                    row["key"][:8],
                )
            voice.out.print(table)
            voice.out.print(f"{len(rows)} cells, {sum(row['stored'] for row in rows)} of them in the store of {out}.")
            for line in [*cost_lines(costs, pace), *([] if fitted is None else [fit_line(fitted, within or "")])]:
                voice.out.print(line, soft_wrap=True)

        cost = {**asdict(costs.passes), "seconds": round(pace.seconds(costs.passes), 1), "untold_cells": costs.unknown}
        found: dict[str, Any] = {"cells": rows, "at_most": cost}
        if fitted is not None:
            found["within"] = {**asdict(fitted), "seconds": round(fitted.seconds, 1)}
        voice.give(found, show)


def cost_lines(costs: CostEstimate, pace: Throughput) -> list[str]:
    """What the cells that are not stored cost at most, then the dearest studies with the keys they follow."""
    from audit.planning.cost import cost_keys

    if not costs.by_study:
        return []
    lines = [
        f"What is missing takes at most {costs.passes.forwards:,} forwards and {costs.passes.backwards:,} gradients: "
        f"{_duration(pace.seconds(costs.passes))} at {1000 * pace.forward:.3g} ms a forward and "
        f"{1000 * pace.gradient:.3g} ms a gradient here. Not counted: {costs.unknown} cells whose cost nobody can "
        "tell, such as training."
    ]
    dearest = sorted(costs.by_study, key=lambda study: -pace.seconds(costs.by_study[study]))[:3]
    for study in dearest:
        lines.append(f"  {study}: {_duration(pace.seconds(costs.by_study[study]))}; cheaper by {cost_keys(study)}")
    return lines


def fit_line(fitted: BudgetFit, asked: str) -> str:
    """The flags that keep a run within the time asked for, or that none do."""
    flags = " ".join(f"--set {name}={number}" for name, number in fitted.counts.items())
    most = _duration(fitted.seconds)
    if not fitted.enough:
        return f"No number of examples makes it {asked}: with {flags} it takes {most} at most. Choose fewer methods."
    return f"Within {asked}: {flags} ({most} at most)." if flags else f"It stays within {asked} as it is."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
