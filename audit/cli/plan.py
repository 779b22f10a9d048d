"""`audit plan`: what a run would compute, and what its store already knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit.cli import options as flag
from audit.cli.voice import speaking


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
    out: flag.Out = Path("audit-run"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """List the cells of a run without running them: study, method, model, examples, stored or not.

    [bold]Examples[/]

      audit plan

      audit plan audit.toml --preset standard --json
    """
    with speaking(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from rich.markup import escape
        from rich.table import Table

        from audit.config import load_config
        from audit.job.folder import RunFolder
        from audit.job.prepare import prepare
        from audit.planning import make_plan

        flags = flag.subject(
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
        ) | flag.measured(
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
        prepared, store = prepare(chosen), RunFolder(out).store
        rows: list[dict[str, Any]] = [
            {
                "wave": task.wave,
                "study": task.cell.study,
                "method": task.cell.method,
                "model": task.role,
                "split": task.examples.split,
                "examples": len(task.examples),
                "stored": store.has(task.cell.key),
                "key": task.cell.key,
            }
            for task in make_plan(prepared.config, prepared.subject).tasks
        ]

        def show() -> None:
            table = Table("wave", "study", "method", "model", "examples", "stored", "key", box=None)
            for row in rows:
                examples = f"{row['examples']} {row['split']}"
                stored = "yes" if row["stored"] else "no"
                table.add_row(
                    str(row["wave"]),
                    row["study"],
                    escape(row["method"]),
                    row["model"],
                    examples,
                    stored,
                    row["key"][:12],
                )
            voice.out.print(table)
            voice.out.print(f"{len(rows)} cells, {sum(row['stored'] for row in rows)} of them in the store of {out}.")

        voice.give({"cells": rows}, show)
