"""Compression as a study: its evidence is the smaller model, read like a trained one, with what it weighs."""

from __future__ import annotations

import copy
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
from audit.models.under_test import ModelUnderTest
from audit.planning.settings import ModelSettings
from audit.topics.compression.facts import CompressionFacts, Int8Facts, SizePart
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.state import TrainingResult


@dataclass(frozen=True)
class Variant:
    """A smaller `module`; `masks` of what must stay pruned; `packed`, what is stored instead of float32 weights;
    `facts` that only this method has; `engine`, what answers faster in its place and has no gradients."""

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
"""By name, what makes a smaller module of the context's model and the method's one number."""
DISTILL = "distill"


@study()
def compression(context: Context, cell: Cell) -> Evidence:
    """Compress the model of the cell by `cell.method`, and train it a little further where `cell.settings` say so.

    Settings: `amount`, the share to prune or the standard deviations to clip at (None for int8 and distill); `student`,
    the architecture distill trains (None: the run's own); `classes` and `input_shape`; `training`, of the
    fine-tuning or the distillation, or None. The arrays are the float32 weights, and what is stored instead of them
    where that is smaller; the facts hold the size of the parent and of the variant in numbers and bytes; the
    environment the seconds both took, run by run, on one image and on 64: of int8, its integer kernels where they are.
    """
    if cell.method not in (*METHODS, DISTILL):
        raise unknown_name("compression", cell.method, (*METHODS, DISTILL))
    parent = context.model()
    before = parent.passes.forwards
    made = _student(context, cell) if cell.method == DISTILL else METHODS[cell.method](context, _amount(cell))
    tuned = _fine_tuned(context, cell, parent, made) if ModelSettings.of(cell).training else None
    taught = parent.passes.forwards - before
    if tuned is not None:
        made.module.load_state_dict(tuned.weights)
    arrays = {WEIGHTS: made.module.state_dict(), PACKED: made.packed or {}}
    return Evidence(
        cell,
        "measured",
        arrays={prefix + name: value.cpu().numpy() for prefix, kept in arrays.items() for name, value in kept.items()},
        facts=CompressionFacts(
            mean=parent.mean,
            std=parent.std,
            parameters=sum(parameter.numel() for parameter in made.module.parameters()),
            parent=SizePart(**asdict(footprint(parent.net))),
            variant=SizePart(**asdict(footprint(made.module, made.packed))),
            history=() if tuned is None else tuple(dict(row) for row in tuned.history),
            notes=() if tuned is None else tuned.notes,
            **made.facts,
        ).dump(),
        forwards=taught + (0 if tuned is None else tuned.passes.forwards),
        backwards=0 if tuned is None else tuned.passes.backwards,
        environment={"latency": _latencies(parent, made.engine or made.module)},
    )


def _amount(cell: Cell) -> float:
    return float(ModelSettings.of(cell).amount or 0)


def _cut(parent: ModelUnderTest, share: float) -> Variant:
    cut = prune_channels(parent.net, share, probe_images(parent.input_shape))
    return Variant(cut.module.to(parent.device), facts={"cut": True, "spared": list(cut.unpruned_layers)})


def _quantised(context: Context) -> Variant:
    """In int8 throughout where there are images to calibrate on, else in its weights alone."""
    parent, examples = context.model(), len(context.task.examples)
    ranges = input_ranges(parent.net, lambda: parent.logits(context.batch().images)) if examples else {}
    twin, packed = quantize_weights(insert_input_quantizers(copy.deepcopy(parent.net), ranges))
    engine = to_integer_kernels(twin)
    facts = Int8Facts(calibrated=examples, in_float=list(float_layers(twin)), engine=ENGINE if engine else "")
    return Variant(twin, packed=packed, facts={"int8": facts}, engine=engine)


def _student(context: Context, cell: Cell) -> Variant:
    name = ModelSettings.of(cell).student
    return Variant(context.fresh(cell.seed, name) if name else context.fresh(cell.seed))


def _fine_tuned(context: Context, cell: Cell, parent: ModelUnderTest, made: Variant) -> TrainingResult:
    for parameter in made.module.parameters():
        parameter.requires_grad_(True)
    threat: Mapping[str, Any] | None = cell.threat
    with keep_pruned(made.module, made.masks):
        return fit(
            made.module,
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
