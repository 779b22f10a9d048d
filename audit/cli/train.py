"""`audit train`: a model from data, with its accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def train(
    config: flag.ConfigFile = None,
    data: flag.Data = None,
    architecture: flag.Architecture = None,
    mean: flag.Mean = None,
    std: flag.Std = None,
    trust: flag.Trust = None,
    image_size: flag.ImageSize = None,
    crop: flag.Crop = None,
    grayscale: flag.Grayscale = None,
    labels_map: flag.LabelsMap = None,
    strict: flag.Strict = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="See `audit methods`.", show_default="standard")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="adam, adamw, sgd, rmsprop or adagrad.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate")] = None,
    augmentation: Annotated[
        str | None, typer.Option("--augmentation", help="none, keras, crop-flip or jitter.", show_default="none")
    ] = None,
    pretrained: flag.Pretrained = None,
    frozen_epochs: Annotated[
        int | None,
        typer.Option("--frozen-epochs", min=0, help="First epochs in which only the last layer learns (transfer)."),
    ] = None,
    backbone_rate: Annotated[
        float | None, typer.Option("--backbone-rate", help="Factor on the learning rate of all but the last layer.")
    ] = None,
    workers: flag.Workers = None,
    tensorboard: flag.TensorBoard = None,
    norm: flag.NormFlag = None,
    eps: flag.EpsFlag = None,
    time_budget: flag.TimeBudget = None,
    settings: flag.Set = None,
    seed: flag.Seed = None,
    device: flag.Device = None,
    out: flag.Out = Path("audit-train"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Train a model and measure its clean accuracy; the weights land in OUT/models/standard.safetensors.

    [bold]Examples[/]

      audit train

      audit train --data folder:photos --architecture cnn-150 --image-size 150 --augmentation keras --out photos

      audit train --data folder:photos --image-size 224 --architecture torchvision:resnet18 --pretrained resnet18.pth
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.cli.run_command import RunRequest, run_and_report
        from audit.config import load_config

        flags = flag.data_and_model_overrides(
            data=data,
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
            "training.recipe": recipe,
            "training.epochs": epochs,
            "training.batch_size": batch_size,
            "training.optimizer": optimizer,
            "training.learning_rate": learning_rate,
            "training.augmentation": augmentation,
            "training.frozen_epochs": frozen_epochs,
            "training.backbone_rate": backbone_rate,
            "training.workers": workers,
            "training.tensorboard": tensorboard,
            "model.pretrained": pretrained,
            "training.time_budget": flag.parse_duration(time_budget, "--time-budget"),
            "robustness.norm": norm,
            "robustness.eps": eps,
            "hardening.enabled": False,
        }
        run_and_report(
            RunRequest(load_config(config, overrides=flag.overrides(flags, settings)), out, scope="train"), voice
        )
