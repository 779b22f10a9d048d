"""Shortcuts as evidence: regions that hold a class's attribution, and what happens when they are exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Evidence, Measurement
from audit.core.precise import precise
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.execution.context import Context
from audit.execution.explanation_inputs import attributions_or_raise, run_cell_method, segments_for, to_numpy
from audit.execution.measured import measured_evidence
from audit.metrics.shortcuts import ShortcutTest, confirm_shortcuts, shortcut_candidates
from audit.topics.shortcuts.facts import ShortcutFacts, ShortcutsFacts


@study(version="3")
def shortcuts(context: Context, cell: Cell) -> Evidence:
    """Search for a region that alone decides a class, over all examples of the batch (a few hundred at least).

    `cell.method` is an attribution method by pixel, with `cell.settings` as of an explanation (`method`, `output`,
    `baseline`); each image's own label is explained. Facts: see `ShortcutsFacts`. Array `regions` uint8 (shortcuts, H,
    W). Measurement `mass`: the share of each image's positive attribution in the region of its class, 0 where there is
    none.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model, batch = context.model(), context.batch().to(context.model().device)
    if context.stopping():
        raise Interrupted("Stopped before looking for shortcuts; the same command resumes.")
    with model.count() as counter:
        try:
            segments = segments_for(cell, batch.images)
            explanation = run_cell_method(
                model, cell, batch.images, targets=batch.labels, segments=segments, ids=batch.ids
            )
            maps = attributions_or_raise(explanation)
        except NotApplicable as fault:
            return Evidence(cell, "not_applicable", reason=fault.reason)
        candidates = shortcut_candidates(maps, batch.labels, seed=cell.seed)
        generators = Generators.of(batch.ids, seed=cell.seed, purpose="shortcuts", device=model.device)
        confirmed = confirm_shortcuts(model, batch, candidates, generators=generators)
    context.progress(len(batch), len(batch))
    positive = precise(maps).sum(1).clamp(min=0)
    labels = batch.labels.to(positive.device)
    mass = torch.zeros(len(batch), dtype=torch.float64, device=positive.device)
    total = positive.flatten(1).sum(1).clamp(min=1e-300)
    for test in confirmed:
        inside = (positive * test.suspect.region.to(positive.device)).flatten(1).sum(1) / total
        mass = torch.where(labels == test.suspect.label, inside, mass)
    return measured_evidence(
        cell,
        (Measurement("mass", "share", "lower", to_numpy(mass)),),
        arrays={"regions": _regions(confirmed, batch.images.shape)},
        facts=ShortcutsFacts(shortcuts=tuple(_facts(test, model.classes) for test in confirmed), tried=len(candidates)),
        passes=counter.passes,
    )


def _facts(test: ShortcutTest, classes: tuple[str, ...]) -> ShortcutFacts:
    rows, columns = (test.suspect.region.any(axis).nonzero().flatten() for axis in (1, 0))
    return ShortcutFacts(
        label=classes[test.suspect.label],
        share=test.suspect.share,
        transplanted=test.transplanted,
        joined_anyway=test.joined_anyway,
        removed=test.removed,
        left_anyway=test.left_anyway,
        images=len(test.suspect.images),
        box=[int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1],
    )


def _regions(confirmed: list[ShortcutTest], shape: torch.Size) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not confirmed:
        return np.zeros((0, *shape[2:]), dtype=np.uint8)
    return np.stack([test.suspect.region.numpy() for test in confirmed]).astype(np.uint8)
