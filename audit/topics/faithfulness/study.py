"""Faithfulness as evidence: deletion and insertion by a method's maps, beside orders blind to the model."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.registry import study
from audit.core.types import Attributions, Batch
from audit.execution.context import Context
from audit.execution.explanation_inputs import NOTHING_TO_JUDGE
from audit.execution.joined_images import join_images
from audit.execution.measured import measured_evidence
from audit.metrics.pixel_ranking import blurred_copy, order_of
from audit.planning.parts import part_inputs
from audit.topics.faithfulness.curves import (
    all_curves,
    arrays,
    control_orders,
    from_arrays,
    generators,
    measurements,
    protocol,
    same_facts,
)
from audit.topics.faithfulness.facts import FaithfulnessFacts, FaithfulnessSettings


@study()
def faithfulness(context: Context, cell: Cell) -> Evidence:
    """Deletion and insertion areas of the maps of `cell.inputs["explanation"]` and of their controls.

    `cell.settings`: see `FaithfulnessSettings`. Measurements: `deletion_area` and `insertion_area` of the method, then
    with `_random`, `_centre`, `_edges`, `_blurred` appended for the controls on the same images, steps and fill; a
    second fill puts its name before that (`deletion_area_blur_random`). Arrays: the curves, as `deletion_curve` and so
    on. The controls that are the same for every method come from `cell.inputs["controls"]` where it is there. Not
    applicable where the explanation was not.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return join_images(context, cell, same_facts) if part_inputs(cell) else _measured(context, cell)


@study()
def faithfulness_part(context: Context, cell: Cell) -> Evidence:
    """The areas of `faithfulness` on some of the images.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _measured(context, cell)


def _measured(context: Context, cell: Cell) -> Evidence:
    explained = context.evidence("explanation")
    if explained.status != "measured":
        return Evidence(cell, "not_applicable", reason=explained.reason or NOTHING_TO_JUDGE)
    settings = FaithfulnessSettings.of(cell)
    model = context.model()
    maps = torch.from_numpy(explained.arrays["attributions"].copy()).to(model.device)
    targets = torch.from_numpy(explained.arrays["targets"].copy()).to(model.device)
    batch = context.batch().to(model.device)
    shared = from_arrays(context.evidence("controls").arrays) if "controls" in cell.inputs else {}
    orders = _map_orders(batch, maps, cell.seed, blurred=settings.blurred)
    if not shared:
        orders |= control_orders(batch, cell.seed, settings.random_orders)
    with model.count() as counter:
        curves = all_curves(context, model, batch, orders, targets, settings, shared) | shared
    return measured_evidence(
        cell,
        measurements(curves),
        arrays=arrays(curves),
        facts=FaithfulnessFacts(protocol=protocol(settings), **settings.model_dump()),
        passes=counter.passes,
    )


def _map_orders(batch: Batch, maps: Attributions, seed: int, *, blurred: bool) -> dict[str, Tensor]:
    """The map's order, and that of the map blurred where it is a control."""
    ties = generators(batch, seed, "ties")
    return {"": order_of(maps, ties)} | ({"blurred": order_of(blurred_copy(maps), ties)} if blurred else {})
