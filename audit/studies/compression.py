"""Compression as a study: its evidence is the smaller model, read like a trained one, with what it weighs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from audit.cell import Cell
from audit.config import TrainingConfig
from audit.errors import unknown_name
from audit.evidence import Evidence
from audit.models.compress import (
    Masks,
    clip_weights,
    footprint,
    kept_pruned,
    latency,
    prune_channels,
    prune_weights,
    quantise,
)
from audit.models.under_test import ModelUnderTest
from audit.registry import study
from audit.studies.context import Context
from audit.studies.training import WEIGHTS
from audit.threat import ThreatModel
from audit.training.loop import Trained, fit
from audit.training.watch import Watch

Packed = Mapping[str, Tensor] | None
Compressed = tuple[nn.Module, Masks, Packed]

METHODS: Mapping[str, Callable[[nn.Module, float], Compressed]] = {
    "prune-weights": lambda module, amount: (*prune_weights(module, amount), None),
    "prune-channels": lambda module, amount: (*prune_channels(module, amount), None),
    "clip-weights": lambda module, amount: (clip_weights(module, amount), {}, None),
    "int8": lambda module, amount: (*_quantised(module),),
}
"""By name, what makes a smaller module of a module and the method's one number."""


@study()
def compression(context: Context, cell: Cell) -> Evidence:
    """Compress the model of the cell by `cell.method`, and train it a little further where `cell.settings` say so.

    Settings: `amount`, the share to prune or the standard deviations to clip at (int8 needs none); `classes`
    and `input_shape`; `fine_tuning`, a training configuration or None. The facts hold the size of the parent
    and of the variant in numbers and bytes; the environment how long both take on one image and on 64.
    """
    if cell.method not in METHODS:
        raise unknown_name("compression", cell.method, METHODS)
    parent = context.model()
    module, masks, packed = METHODS[cell.method](parent.net, float(cell.settings.get("amount", 0)))
    tuned = _fine_tuned(context, cell, parent, module, masks) if cell.settings.get("fine_tuning") else None
    if tuned is not None:
        module.load_state_dict(tuned.weights)
    return Evidence(
        cell,
        "measured",
        arrays={WEIGHTS + name: value.cpu().numpy() for name, value in module.state_dict().items()},
        facts={
            "mean": list(parent.mean),
            "std": list(parent.std),
            "parent": asdict(footprint(parent.net)),
            "variant": asdict(footprint(module, packed)),
            "history": [] if tuned is None else [dict(row) for row in tuned.history],
        },
        forwards=0 if tuned is None else tuned.passes.forwards,
        backwards=0 if tuned is None else tuned.passes.backwards,
        environment={"seconds": {"parent": _speed(parent, parent.net), "variant": _speed(parent, module)}},
    )


def _quantised(module: nn.Module) -> Compressed:
    twin, packed = quantise(module)
    return twin, {}, packed


def _fine_tuned(context: Context, cell: Cell, parent: ModelUnderTest, module: nn.Module, masks: Masks) -> Trained:
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    threat: Mapping[str, Any] | None = cell.threat
    with kept_pruned(module, masks):
        return fit(
            module,
            context.batch(),
            TrainingConfig.model_validate(cell.settings["fine_tuning"]),
            classes=len(cell.settings["classes"]),
            threat=None if threat is None else ThreatModel(threat["norm"], threat["eps"]),
            seed=cell.seed,
            mean=parent.mean,
            std=parent.std,
            device=context.device,
            watch=Watch(context.scratch, context.progress, context.stopping),
        )


def _speed(parent: ModelUnderTest, module: nn.Module) -> dict[str, float]:
    noise = torch.rand(64, *parent.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    images = noise.to(parent.device).contiguous(memory_format=torch.channels_last)
    return {"1": latency(module, images[:1]), "64": latency(module, images)}
