"""`audit run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def run(
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
    gate: Annotated[bool, typer.Option("--gate", help="Exit 1 when the verdict is fail or inconclusive.")] = False,
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Train or load a model, audit it, harden it, audit that too, and write the report.

    Without any flag it does so on the Fashion-MNIST sample that ships with the package.

    What the run folder holds already is not computed again: the same command goes on.

    [bold]Examples[/]

      audit run

      audit run --data fashion-mnist:/usr/share/datasets/fashion-mnist --preset standard --out fashion

      audit run --model net.safetensors --architecture cnn-28 --data folder:photos --mean .5 --std .5

      audit run --only robustness --battery standard

      audit run audit.toml --set explanations.examples=8 --gate
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.cli.run_command import RunRequest, run_and_report
        from audit.config import load_config

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
        run_and_report(
            RunRequest(load_config(config, preset=preset, overrides=flag.overrides(flags, settings)), out, gate=gate),
            voice,
        )
