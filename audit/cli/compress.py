"""`audit compress`: a smaller model, audited beside the one it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def compress(
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
    method: Annotated[
        str | None,
        typer.Option("--method", help="magnitude, structured, clip, int8 or distill.", show_default="magnitude"),
    ] = None,
    amount: Annotated[
        float | None,
        typer.Option(
            "--amount",
            help="Share of weights (magnitude, .5) or channels (structured, .3) to prune; standard deviations to clip "
            "at (clip, 2.5).",
            show_default=False,
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option("--student", help="The architecture that distill trains.", show_default="the parent's"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Of the fine-tuning after pruning.", show_default="standard")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=0, help="Of fine-tuning or distillation; 0 for no fine-tuning.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate")] = None,
    norm: flag.NormFlag = None,
    eps: flag.EpsFlag = None,
    preset: flag.Preset = None,
    time_budget: flag.TimeBudget = None,
    settings: flag.Set = None,
    seed: flag.Seed = None,
    device: flag.Device = None,
    out: flag.Out = Path("audit-compress"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Make a smaller model, and audit what that cost: accuracy, robustness, and where it looks.

    magnitude sets the smallest weights to zero, structured takes the weakest channels out of the net (extra
    compress); both are fine-tuned. clip narrows the range of the weights, int8 computes in bytes, their ranges
    learnt from 256 training images; distill teaches a student the model's answers.

    The smaller weights land in OUT/model.safetensors, the comparison in OUT/report.html.

    [bold]Examples[/]

      audit compress --method int8

      audit compress --data cifar10:data --model net.safetensors --method magnitude --amount 0.8

      audit compress --data folder:photos --model large.safetensors --method distill --student cnn-32 --epochs 20
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
        ) | {
            "hardening.enabled": False,
            "compression.enabled": True,
            "compression.method": method,
            "compression.amount": amount,
            "compression.student": student,
            "compression.recipe": recipe,
            "compression.epochs": epochs,
            "compression.batch_size": batch_size,
            "compression.learning_rate": learning_rate,
            "compression.time_budget": flag.parse_duration(time_budget, "--time-budget"),
            "robustness.norm": norm,
            "robustness.eps": eps,
        }
        chosen = load_config(config, preset=preset, overrides=flag.overrides(flags, settings))
        outcome = run_and_report(RunRequest(chosen, out), voice)
        outcome.folder.publish("compressed")
        voice.say(f"Compressed weights: {outcome.folder.published}")
