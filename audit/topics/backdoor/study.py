"""Triggers as evidence: the smallest patch into each class, made on half of the images and scored on the other."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.registry import find, study
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.neural_cleanse import Triggers, anomaly_index, smallest_triggers
from audit.models.under_test import ModelUnderTest
from audit.topics.backdoor.facts import BackdoorFacts, TriggerFacts


@study()
def backdoor(context: Context, cell: Cell) -> Evidence:
    """Neural Cleanse over all classes; `cell.settings` are those of the metric `smallest-triggers`.

    Measurement `moved`: for each image of the scoring half, the share of other classes whose patch sends it there; NaN
    for the half the patches were made on. Facts: see `BackdoorFacts`. Arrays: `masks` (K, H, W), `patterns` (K, C, H,
    W).

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model, batch = context.model(), context.batch()
    batch = batch.to(model.device)
    settings = find("metric", "smallest-triggers").settings(cell.settings)
    if context.stopping():
        raise Interrupted("Stopped before looking for a trigger; the same command resumes.")
    with model.count() as counter:
        names = [f"class {label}" for label in range(len(model.classes))]
        draws = Generators.of(names, seed=cell.seed, purpose="backdoor", device=model.device)
        triggers = smallest_triggers(model, batch.images[0::2], draws, **settings)
        context.progress(1, 2)
        moved, eligible = _score(model, batch, triggers)
        context.progress(2, 2)
    return measured_evidence(
        cell,
        (Measurement("moved", "share", "lower", _per_image(moved, eligible, len(batch))),),
        arrays={"masks": triggers.masks.cpu().numpy(), "patterns": triggers.patterns.cpu().numpy()},
        facts=BackdoorFacts(triggers=_facts(model.classes, triggers, moved, eligible), made_on=len(batch.images[0::2])),
        passes=counter.passes,
    )


def _score(model: ModelUnderTest, batch: Batch, triggers: Triggers) -> tuple[Array, Array]:
    """Whether each patch sends each image of the scoring half to its class, and whether that counts; bool (M, K) each.

    It counts where neither the label nor the prediction is that class.
    """
    images, labels = batch.images[1::2], batch.labels[1::2]
    before = model.predictions(images)
    moved, eligible = [], []
    for label in range(len(model.classes)):
        moved.append(_numpy(model.predictions(triggers.stamped(images, label)) == label))
        eligible.append(_numpy((before != label) & (labels != label)))
    return np.stack(moved, 1), np.stack(eligible, 1)


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
