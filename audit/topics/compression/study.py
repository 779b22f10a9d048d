"""Compression as evidence: the weights of the smaller model, with its size and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.cell import Cell
from audit.core.errors import unknown_name
from audit.core.evidence import Evidence
from audit.core.registry import study
from audit.core.threat import ThreatModel
from audit.execution.context import Context
from audit.execution.stored_model import PACKED, WEIGHTS
from audit.models.compression.compress import (
    WeightMasks,
    clip_weights,
    keep_pruned,
    prune_weights,
    quantize_weights,
)
from audit.models.compression.cost import footprint, paired_latency
from audit.models.compression.quantization import (
    ENGINE,
    float_layers,
    input_ranges,
    insert_input_quantizers,
    to_integer_kernels,
)
from audit.models.compression.structured_pruning import probe_images, prune_channels
from audit.models.module_copy import copy_module
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
        engine: A net that answers faster in its place and has no gradients; None where there is none.
    """

    module: nn.Module
    masks: WeightMasks = field(default_factory=dict)
    packed: Mapping[str, Tensor] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    engine: nn.Module | None = None


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
    weights under "weights/", and under "packed/" what is stored instead of them where that is smaller. Facts: see
    `CompressionFacts`. The environment holds the seconds of parent and variant, pass by pass, on one image and on 64;
    of int8, those of its integer kernels where there are any.

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
    arrays = {WEIGHTS: variant.module.state_dict(), PACKED: variant.packed or {}}
    return Evidence(
        cell,
        "measured",
        arrays={
            prefix + name: value.cpu().numpy() for prefix, state in arrays.items() for name, value in state.items()
        },
        facts=CompressionFacts(
            mean=parent.mean,
            std=parent.std,
            parameters=sum(parameter.numel() for parameter in variant.module.parameters()),
            parent=SizePart(**asdict(footprint(parent.net))),
            variant=SizePart(**asdict(footprint(variant.module, variant.packed))),
            history=() if tuned is None else tuple(dict(row) for row in tuned.history),
            notes=() if tuned is None else tuned.notes,
            **variant.facts,
        ).dump(),
        forwards=teacher_forwards + (0 if tuned is None else tuned.passes.forwards),
        backwards=0 if tuned is None else tuned.passes.backwards,
        environment={"latency": _latencies(parent, variant.engine or variant.module)},
    )


def _amount(cell: Cell) -> float:
    return float(ModelSettings.of(cell).amount or 0)


def _cut(parent: ModelUnderTest, share: float) -> Variant:
    cut = prune_channels(parent.net, share, probe_images(parent.input_shape))
    return Variant(cut.module.to(parent.device), facts={"cut": True, "spared": list(cut.unpruned_layers)})


def _quantised(context: Context) -> Variant:
    """Quantise weights, and inputs too where there are images to measure their ranges on."""
    parent, examples = context.model(), len(context.task.examples)
    ranges = input_ranges(parent.net, lambda: parent.logits(context.batch().images)) if examples else {}
    quantised, packed = quantize_weights(insert_input_quantizers(copy_module(parent.net), ranges))
    engine = to_integer_kernels(quantised)
    facts = Int8Facts(calibrated=examples, in_float=list(float_layers(quantised)), engine=ENGINE if engine else "")
    return Variant(quantised, packed=packed, facts={"int8": facts}, engine=engine)


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
