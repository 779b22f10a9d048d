"""`audit harden`: adversarial training, and the audit of both models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def harden(
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
    recipe: Annotated[str | None, typer.Option("--recipe", help="See `audit methods`.", show_default="pgd")] = None,
    norm: flag.NormFlag = None,
    eps: flag.EpsFlag = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of adversarial training.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate")] = None,
    from_scratch: Annotated[
        bool | None, typer.Option("--from-scratch/--warm-start", help="Start from new weights, or the audited model's.")
    ] = None,
    workers: flag.Workers = None,
    tensorboard: flag.TensorBoard = None,
    preset: flag.Preset = None,
    time_budget: flag.TimeBudget = None,
    settings: flag.Set = None,
    seed: flag.Seed = None,
    device: flag.Device = None,
    out: flag.Out = Path("audit-harden"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Train a model that is harder to fool, and audit it beside the one it came from.

    The hardened weights land in OUT/model.safetensors, the comparison in OUT/report.html.

    [bold]Examples[/]

      audit harden

      audit harden --data cifar10:data --architecture cnn-32 --model net.safetensors --recipe pgd --eps 8/255
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
            "hardening.enabled": True,
            "hardening.recipe": recipe,
            "hardening.epochs": epochs,
            "hardening.batch_size": batch_size,
            "hardening.learning_rate": learning_rate,
            "hardening.time_budget": flag.parse_duration(time_budget, "--time-budget"),
            "training.workers": workers,
            "hardening.workers": workers,
            "training.tensorboard": tensorboard,
            "hardening.tensorboard": tensorboard,
            "hardening.from_scratch": from_scratch,
            "robustness.norm": norm,
            "robustness.eps": eps,
        }
        outcome = run_and_report(
            RunRequest(load_config(config, preset=preset, overrides=flag.overrides(flags, settings)), out), voice
        )
        outcome.folder.publish("hardened")
        voice.say(f"Hardened weights: {outcome.folder.published}")
