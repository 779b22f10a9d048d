"""Was a trigger planted? The smallest patch for every class, made on one half of the images and scored on the other."""

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

    Measurement moved: of each image of the scoring half, the share of other classes whose patch sends it there; NaN for
    the half the patches were made on. Facts: see `BackdoorFacts`. Arrays: masks (K, H, W), patterns (K, C, H, W).
    """
    model, batch = context.model(), context.batch()
    batch = batch.to(model.device)
    settings = find("metric", "smallest-triggers").settings(cell.settings)
    if context.stopping():
        raise Interrupted("Stopped before looking for a trigger; the same command resumes.")
    with model.count() as spent:
        names = [f"class {label}" for label in range(len(model.classes))]
        draws = Generators.of(names, seed=cell.seed, purpose="backdoor", device=model.device)
        found = smallest_triggers(model, batch.images[0::2], draws, **settings)
        context.progress(1, 2)
        moved, elsewhere = _score(model, batch, found)
        context.progress(2, 2)
    return measured_evidence(
        cell,
        (Measurement("moved", "share", "lower", _per_image(moved, elsewhere, len(batch))),),
        arrays={"masks": found.masks.cpu().numpy(), "patterns": found.patterns.cpu().numpy()},
        facts=BackdoorFacts(triggers=_facts(model.classes, found, moved, elsewhere), made_on=len(batch.images[0::2])),
        passes=spent.passes,
    )


def _score(model: ModelUnderTest, batch: Batch, found: Triggers) -> tuple[Array, Array]:
    """On the scoring half (M): whether each patch moves each image to its class, and whether that would be a move at
    all, as neither label nor prediction is the class; bool (M, K)."""
    images, labels = batch.images[1::2], batch.labels[1::2]
    before = model.predictions(images)
    moved, elsewhere = [], []
    for label in range(len(model.classes)):
        moved.append(_plain(model.predictions(found.stamped(images, label)) == label))
        elsewhere.append(_plain((before != label) & (labels != label)))
    return np.stack(moved, 1), np.stack(elsewhere, 1)


def _per_image(moved: Array, elsewhere: Array, total: int) -> Array:
    shares = np.full(total, np.nan)
    shares[1::2] = (moved & elsewhere).sum(1) / np.maximum(elsewhere.sum(1), 1)
    return shares


def _facts(classes: tuple[str, ...], found: Triggers, moved: Array, elsewhere: Array) -> tuple[TriggerFacts, ...]:
    areas = found.areas.cpu().numpy()
    return tuple(
        TriggerFacts(
            label=name,
            area=float(areas[label]),
            anomaly=float(anomaly),
            moved=int((moved & elsewhere)[:, label].sum()),
            tried=int(elsewhere[:, label].sum()),
            reached=bool(found.reached[label]),
        )
        for label, (name, anomaly) in enumerate(zip(classes, anomaly_index(areas), strict=True))
    )


def _plain(values: Tensor) -> Array:
    return values.cpu().numpy()
