"""Faithfulness as evidence: deletion and insertion by a method's maps beside orders that know nothing of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from audit.cell import Cell
from audit.errors import Interrupted
from audit.evidence import Better, Evidence, Measurement
from audit.metrics.orders import CONTROLS, blurred_copy, control_order, order_of
from audit.metrics.removal import Mode, deletion_area, removal_curves
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import fill_images
from audit.registry import study
from audit.seeding import Generators
from audit.studies.context import Context
from audit.types import Batch

DEFAULTS: Mapping[str, Any] = {"steps": 24, "fills": ["mean", "blur"], "output": "probability", "random_orders": 2}
_BETTER: Mapping[Mode, Better] = {"deletion": "lower", "insertion": "higher"}


@study()
def faithfulness(context: Context, cell: Cell) -> Evidence:
    """Deletion and insertion areas of one method's maps (`cell.inputs["explanation"]`) and of its controls.

    `cell.settings` over `DEFAULTS`: `steps`, `fills`, `output`, `random_orders` (averaged). Measurements:
    `deletion_area` and `insertion_area` of the method, then with `_random`, `_centre`, `_edges`, `_blurred` appended
    for the controls on the same images, steps and fill; a second fill puts its name before that
    (`deletion_area_blur_random`). Arrays: the curves, as `deletion_curve` and so on. Not applicable where the
    explanation was not.
    """
    explained = context.evidence("explanation")
    if explained.status != "measured":
        return Evidence(cell, "not_applicable", reason=explained.reason or "There is no explanation to judge.")
    settings = {**DEFAULTS, **cell.settings}
    model = context.model()
    maps = torch.from_numpy(explained.arrays["attributions"].copy()).to(model.device)
    targets = torch.from_numpy(explained.arrays["targets"].copy()).to(model.device)
    batch = context.batch().select(torch.arange(len(maps), device="cpu")).to(model.device)
    orders = _orders(batch, maps, cell.seed, int(settings["random_orders"]))
    with model.count() as spent:
        curves = _all_curves(context, model, batch, orders, targets, settings)
    return Evidence(
        cell=cell,
        status="measured",
        measurements=tuple(_measure(name, curve) for name, curve in curves.items()),
        arrays={name.replace("_area", "_curve"): curve.cpu().numpy() for name, curve in curves.items()},
        facts={"protocol": _protocol(settings), **settings},
        forwards=spent.passes.forwards,
        backwards=spent.passes.backwards,
    )


def _orders(batch: Batch, maps: Tensor, seed: int, random_orders: int) -> dict[str, Tensor]:
    def generators(purpose: str) -> Generators:
        return Generators.of(batch.ids, seed=seed, purpose=f"faithfulness/{purpose}", device=maps.device)

    orders = {"": order_of(maps, generators("ties")), "blurred": order_of(blurred_copy(maps), generators("ties"))}
    for control in CONTROLS:
        repeats = random_orders if control == "random" else 1
        for repeat in range(repeats):
            orders[f"{control}#{repeat}"] = control_order(control, batch.images, generators(control).fork(repeat))
    return orders


def _all_curves(
    context: Context,
    model: ModelUnderTest,
    batch: Batch,
    orders: Mapping[str, Tensor],
    targets: Tensor,
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    modes: tuple[Mode, ...] = ("deletion", "insertion")
    fills = list(settings["fills"])
    for position, fill in enumerate(fills):
        stand_in = fill_images(batch.images, fill)
        for mode in modes:
            if context.stopping():
                raise Interrupted("Stopped while measuring faithfulness; the same command resumes.")
            curves = removal_curves(
                model,
                batch.images,
                orders,
                targets=targets,
                fill=stand_in,
                mode=mode,
                steps=int(settings["steps"]),
                output=settings["output"],
            )
            found |= _named(curves, f"{mode}_area" + (f"_{fill}" if position else ""))
            context.progress(2 * position + modes.index(mode) + 1, 2 * len(fills))
    return found


def _named(curves: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Repeats of a control are averaged; the method's own curve carries no suffix."""
    groups: dict[str, list[Tensor]] = {}
    for name, curve in curves.items():
        groups.setdefault(name.split("#")[0], []).append(curve)
    return {prefix + (f"_{name}" if name else ""): torch.stack(group).mean(0) for name, group in groups.items()}


def _measure(name: str, curves: Tensor) -> Measurement:
    better = _BETTER[cast(Mode, name.split("_")[0])]
    return Measurement(name, "mean output", better, deletion_area(curves).double().cpu().numpy())


def _protocol(settings: Mapping[str, Any]) -> str:
    fills = " and ".join(str(fill) for fill in settings["fills"])
    return (
        f"{settings['steps']} equal steps over all pixels, highest attribution first, filled with {fills}; "
        f"the {settings['output']} of the explained class; controls on the same images: {settings['random_orders']} "
        "random orders (averaged), the centre, an edge detector, the map blurred."
    )
