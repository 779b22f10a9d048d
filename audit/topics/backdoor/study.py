"""Triggers as evidence: the smallest patch into each class, made on half of the images and scored on the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.registry import study
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.neural_cleanse import Triggers, anomaly_index
from audit.models.under_test import ModelUnderTest
from audit.planning.parts import part_inputs
from audit.topics.backdoor.facts import BackdoorFacts, SearchedClasses, TriggerFacts
from audit.topics.backdoor.search import search_triggers

MASKS, PATTERNS, REACHED, MOVED = "masks", "patterns", "reached", "moved"
"""Arrays: what `Triggers` holds, and whether each patch sends each image of the scoring half to its class."""


@study()
def backdoor(context: Context, cell: Cell) -> Evidence:
    """Neural Cleanse over all classes; `cell.settings` are those of the metric `smallest-triggers`.

    The search itself is in the inputs "part FIRST", evidence of `backdoor_part`, where there are any. Measurement
    `moved`: for each image of the scoring half, the share of other classes whose patch sends it there; NaN for the half
    the patches were made on. Facts: see `BackdoorFacts`. Arrays: `masks` (K, H, W), `patterns` (K, C, H, W).

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model, parts = context.model(), [context.evidence(name) for name in part_inputs(cell)]
    batch = context.batch().to(model.device)
    with model.count() as counter:
        if parts:
            triggers, moved = _joined(parts, model)
        else:
            triggers, sent = search_triggers(context, cell, model, batch, range(len(model.classes)))
            moved = _numpy(sent)
        eligible = _eligible(model, batch)
    return measured_evidence(
        cell,
        (Measurement("moved", "share", "lower", _per_image(moved, eligible, len(batch))),),
        arrays={MASKS: _numpy(triggers.masks), PATTERNS: _numpy(triggers.patterns)},
        facts=BackdoorFacts(triggers=_facts(model.classes, triggers, moved, eligible), made_on=len(batch.images[0::2])),
        passes=counter.passes,
    )


@study()
def backdoor_part(context: Context, cell: Cell) -> Evidence:
    """The search of `backdoor` over some of the classes.

    Settings: those of the metric, and `SearchedClasses`. Arrays: `masks` (K, H, W), `patterns` (K, C, H, W) and
    `reached` bool (K,) of these classes; `moved` bool (M, K), whether each patch sends each image of the scoring half
    to its class.

    Args:
        context: Gives the model and the examples.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model = context.model()
    batch = context.batch().to(model.device)
    with model.count() as counter:
        labels = range(*SearchedClasses.of(cell).classes)
        triggers, moved = search_triggers(context, cell, model, batch, labels)
    tensors = {MASKS: triggers.masks, PATTERNS: triggers.patterns, REACHED: triggers.reached, MOVED: moved}
    return measured_evidence(
        cell, arrays={name: _numpy(tensor) for name, tensor in tensors.items()}, passes=counter.passes
    )


def _joined(parts: list[Evidence], model: ModelUnderTest) -> tuple[Triggers, Array]:
    """The patches into all classes, and what each moves."""
    masks, patterns, reached = (
        torch.from_numpy(np.concatenate([part.arrays[name] for part in parts])).to(model.device)
        for name in (MASKS, PATTERNS, REACHED)
    )
    return Triggers(masks, patterns, reached), np.concatenate([part.arrays[MOVED] for part in parts], axis=1)


def _eligible(model: ModelUnderTest, batch: Batch) -> Array:
    """Whether it counts that a patch moves an image: neither label nor prediction is its class; bool (M, K)."""
    classes = torch.arange(len(model.classes), device=model.device)
    before, labels = model.predictions(batch.images[1::2]), batch.labels[1::2]
    return _numpy((before[:, None] != classes) & (labels[:, None] != classes))


def _per_image(moved: Array, eligible: Array, total: int) -> Array:
    shares = np.full(total, np.nan)
    shares[1::2] = (moved & eligible).sum(1) / np.maximum(eligible.sum(1), 1)
    return shares


def _facts(classes: tuple[str, ...], triggers: Triggers, moved: Array, eligible: Array) -> tuple[TriggerFacts, ...]:
    areas = triggers.areas.cpu().numpy()
    return tuple(
        TriggerFacts(
            label=name,
            area=float(areas[label]),
            anomaly=float(anomaly),
            moved=int((moved & eligible)[:, label].sum()),
            tried=int(eligible[:, label].sum()),
            reached=bool(triggers.reached[label]),
        )
        for label, (name, anomaly) in enumerate(zip(classes, anomaly_index(areas), strict=True))
    )


def _numpy(values: Tensor) -> Array:
    return values.cpu().numpy()
