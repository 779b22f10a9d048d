"""The search for the smallest patch into each of some classes, which goes on where it was cut off."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.resumable import ResumableLoop
from audit.metrics.neural_cleanse import Triggers, TriggerSearch
from audit.models.under_test import ModelUnderTest


def search_triggers(
    context: Context, cell: Cell, model: ModelUnderTest, batch: Batch, labels: range
) -> tuple[Triggers, Tensor]:
    """Make the patches on half of the images and try each on the other half.

    Args:
        context: Gives the checkpoint of the cell.
        cell: The cell, whose settings are those of the metric, and perhaps others.
        model: The model.
        batch: All images of the cell, on the model's device.
        labels: The classes.

    Returns:
        The patches, and whether each sends each image of the other half to its class, bool (M, K).

    Raises:
        Interrupted: The user asked to stop; what was searched is kept.
        NotApplicable: The model has too many classes.
    """
    metric = find("metric", "smallest-triggers")
    settings = metric.settings({name: cell.settings[name] for name in metric.defaults if name in cell.settings})
    draws = Generators.of(
        [f"class {label}" for label in labels], seed=cell.seed, purpose="backdoor", device=model.device
    )
    triggers = _searched(context, model, TriggerSearch(model, batch.images[0::2], draws, labels, **settings))
    images = batch.images[1::2]
    moved = [model.predictions(triggers.stamped(images, place)) == label for place, label in enumerate(labels)]
    return triggers, torch.stack(moved, 1)


def _searched(context: Context, model: ModelUnderTest, search: TriggerSearch) -> Triggers:
    if context.stopping():
        raise Interrupted("Stopped before looking for a trigger; the same command resumes.")
    loop = ResumableLoop(context, model, search.steps, "looking for a trigger")
    if loop.done:
        search.restore(loop.state, loop.done)
    while not search.finished:
        search.advance()
        loop.round_done(search.done, search.state)
    return search.triggers()
