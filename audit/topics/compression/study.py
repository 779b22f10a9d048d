"""Compression as evidence: the weights of the smaller model, with its size and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.cell import Cell
from audit.core.errors import unknown_name
from audit.core.evidence import Array, Evidence
from audit.core.registry import study
from audit.core.threat import ThreatModel
from audit.execution.context import Context
from audit.execution.stored_model import ONNX_FILE, PACKED, WEIGHTS
from audit.models.compression.compress import (
    WeightMasks,
    clip_weights,
    keep_pruned,
    prune_weights,
    quantize_weights,
)
from audit.models.compression.cost import footprint, paired_latency
from audit.models.compression.static_int8 import file_footprint, float_operators, quantised_file
from audit.models.compression.structured_pruning import probe_images, prune_channels
from audit.models.formats.onnx_runtime_net import OnnxRuntimeNet
from audit.models.under_test import ModelUnderTest
from audit.planning.settings import ModelSettings
from audit.topics.compression.facts import CompressionFacts, Int8Facts, SizePart
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.state import TrainingResult


@dataclass(frozen=True)
class Variant:
    """A smaller model.

    Attributes:
        module: The net.
        masks: By parameter, the weights that must stay pruned while it is trained.
        packed: What is stored instead of float32 weights; None where those are stored.
        facts: Facts that only this method has.
        file: An ONNX file that is stored and shipped instead of the module; empty where there is none.
    """

    module: nn.Module
    masks: WeightMasks = field(default_factory=dict)
    packed: Mapping[str, Tensor] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: bytes = b""


METHODS: Mapping[str, Callable[[Context, float], Variant]] = {
    "magnitude": lambda context, amount: Variant(*prune_weights(context.model().net, amount)),
    "structured": lambda context, amount: _cut(context.model(), amount),
    "clip": lambda context, amount: Variant(clip_weights(context.model().net, amount)),
    "int8": lambda context, _: _quantised(context),
}
"""By name, the function that makes a smaller model from the context and the method's parameter."""
DISTILL = "distill"


@study()
def compression(context: Context, cell: Cell) -> Evidence:
    """Compress the model of the cell by `cell.method`, and fine-tune it where `cell.settings` say so.

    Settings: see `ModelSettings`; its `training` is that of the fine-tuning or the distillation. Arrays: the float32
    weights under "weights/", and under "packed/" what is stored instead of them where that is smaller; of int8 with
    calibration images the bytes of an ONNX file alone. Facts: see `CompressionFacts`. The environment holds the seconds
    of parent and variant, pass by pass, on one image and on 64; of a file, those of onnxruntime.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    if cell.method not in (*METHODS, DISTILL):
        raise unknown_name("compression", cell.method, (*METHODS, DISTILL))
    parent = context.model()
    before = parent.passes.forwards
    variant = _student(context, cell) if cell.method == DISTILL else METHODS[cell.method](context, _amount(cell))
    tuned = _fine_tuned(context, cell, parent, variant) if ModelSettings.of(cell).training else None
    teacher_forwards = parent.passes.forwards - before
    if tuned is not None:
        variant.module.load_state_dict(tuned.weights)
    size = file_footprint(variant.file) if variant.file else footprint(variant.module, variant.packed)
    return Evidence(
        cell,
        "measured",
        arrays=_stored(variant),
        facts=CompressionFacts(
            mean=() if variant.file else parent.mean,  # it is inside the file
            std=() if variant.file else parent.std,
            parameters=size.parameters,
            parent=SizePart(**asdict(footprint(parent.net))),
            variant=SizePart(**asdict(size)),
            history=() if tuned is None else tuple(dict(row) for row in tuned.history),
            notes=() if tuned is None else tuned.notes,
            **variant.facts,
        ).dump(),
        forwards=teacher_forwards + (0 if tuned is None else tuned.passes.forwards),
        backwards=0 if tuned is None else tuned.passes.backwards,
        environment={"latency": _latencies(parent, OnnxRuntimeNet(variant.file) if variant.file else variant.module)},
    )


def _stored(variant: Variant) -> dict[str, Array]:
    if variant.file:
        return {ONNX_FILE: np.frombuffer(variant.file, np.uint8)}
    states = {WEIGHTS: variant.module.state_dict(), PACKED: variant.packed or {}}
    return {prefix + name: value.cpu().numpy() for prefix, state in states.items() for name, value in state.items()}


def _amount(cell: Cell) -> float:
    return float(ModelSettings.of(cell).amount or 0)


def _cut(parent: ModelUnderTest, share: float) -> Variant:
    cut = prune_channels(parent.net, share, probe_images(parent.input_shape))
    return Variant(cut.module.to(parent.device), facts={"cut": True, "spared": list(cut.unpruned_layers)})


def _quantised(context: Context) -> Variant:
    """Weights and what flows between layers, or weights alone where there are no images to learn ranges on."""
    parent, examples = context.model(), len(context.task.examples)
    if not examples:
        quantised, packed = quantize_weights(parent.net)
        return Variant(quantised, packed=packed, facts={"int8": Int8Facts(calibrated=0, in_float=[], engine="")})
    file = quantised_file(parent, context.batch().images)
    facts = Int8Facts(calibrated=examples, in_float=list(float_operators(file)), engine="onnxruntime")
    return Variant(parent.net, facts={"int8": facts}, file=file)


def _student(context: Context, cell: Cell) -> Variant:
    name = ModelSettings.of(cell).student
    return Variant(context.fresh(cell.seed, name) if name else context.fresh(cell.seed))


def _fine_tuned(context: Context, cell: Cell, parent: ModelUnderTest, variant: Variant) -> TrainingResult:
    for parameter in variant.module.parameters():
        parameter.requires_grad_(True)
    threat: Mapping[str, Any] | None = cell.threat
    with keep_pruned(variant.module, variant.masks):
        return fit(
            variant.module,
            context.batch(),
            TrainingConfig.model_validate(ModelSettings.of(cell).training),
            classes=len(ModelSettings.of(cell).classes),
            threat=None if threat is None else ThreatModel(threat["norm"], threat["eps"]),
            seed=cell.seed,
            mean=parent.mean,
            std=parent.std,
            device=context.device,
            teacher=parent.module if cell.method == DISTILL else None,
            callbacks=TrainingCallbacks(context.scratch, context.progress, context.stopping, role=context.task.role),
        )


def _latencies(parent: ModelUnderTest, module: nn.Module) -> list[dict[str, Any]]:
    noise = torch.rand(64, *parent.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    images = noise.to(parent.device).contiguous(memory_format=torch.channels_last)
    module = module.to(parent.device).to(memory_format=torch.channels_last)
    rows = ((count, *paired_latency(parent.net, module, images[:count])) for count in (1, len(images)))
    return [{"images": count, "parent": list(old), "variant": list(new)} for count, old, new in rows]
