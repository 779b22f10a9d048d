"""Deletion and insertion curves of orders of pixels, for faithfulness and its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Better, Evidence, Measurement
from audit.core.note import Note, note
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.resumable import ResumableSteps
from audit.masking.baselines import fill_images
from audit.metrics.deletion_insertion import RemovalMode, deletion_area, removal_curves
from audit.metrics.pixel_ranking import CONTROL_RANKINGS, control_order
from audit.models.under_test import ModelUnderTest
from audit.topics.faithfulness.facts import FaithfulnessFacts, FaithfulnessSettings

_NOT_FINITE = note(
    "removed_not_finite",
    "The model's answer is NaN or infinite on pictures whose pixels are removed, as where a net divides by the spread "
    "of a picture of one colour.",
)
_BETTER: Mapping[RemovalMode, Better] = {"deletion": "lower", "insertion": "higher"}


def control_orders(batch: Batch, seed: int, random_orders: int) -> dict[str, Tensor]:
    """Orders of pixels that do not depend on the model.

    Args:
        batch: The examples.
        seed: The seed of the run.
        random_orders: Number of random orders.

    Returns:
        By name, int64 (N, H x W); repeats of one control end in #0, #1, ...
    """
    orders = {}
    for control in CONTROL_RANKINGS:
        for repeat in range(random_orders if control == "random" else 1):
            draws = generators(batch, seed, control).fork(repeat)
            orders[f"{control}#{repeat}"] = control_order(control, batch.images, draws)
    return orders


def control_count(random_orders: int) -> int:
    """Number of orders that `control_orders` makes.

    Args:
        random_orders: Number of random orders.
    """
    return len(CONTROL_RANKINGS) - 1 + random_orders


def generators(batch: Batch, seed: int, purpose: str) -> Generators:
    """One generator per example, for ties and random orders.

    Args:
        batch: The examples.
        seed: The seed of the run.
        purpose: What the draws are for.
    """
    return Generators.of(batch.ids, seed=seed, purpose=f"faithfulness/{purpose}", device=batch.images.device)


def all_curves(
    context: Context,
    model: ModelUnderTest,
    batch: Batch,
    orders: Mapping[str, Tensor],
    targets: Tensor,
    settings: FaithfulnessSettings,
    known: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Deletion and insertion curves of several orders; repeats of a control are averaged.

    All curves of an image begin and end with the image and the fill, which are forwarded once.

    Args:
        context: Keeps the checkpoint of the cell.
        model: The model.
        batch: The examples.
        orders: By name, orders of pixels, most important first, int64 (N, H x W).
        targets: The class whose output is followed, int64 (N,).
        settings: Fills, steps and output.
        known: Curves of other orders of the same images under the same settings, by name; none by default.

    Returns:
        By name, such as "deletion_area_random", the curves (N, steps + 1).

    Raises:
        NotApplicable: The model's answer is not finite where pixels are removed.
    """
    areas: dict[str, Tensor] = {}
    modes: tuple[RemovalMode, ...] = ("deletion", "insertion")
    fills = settings.fills
    steps = ResumableSteps(context, model, len(fills) * len(modes), "measuring faithfulness")

    def curves(fill: str, mode: RemovalMode, ends: Tensor | None) -> dict[str, Tensor]:
        return removal_curves(
            model,
            batch.images,
            orders,
            targets=targets,
            fill=fill_images(batch.images, fill),
            mode=mode,
            steps=settings.steps,
            output=settings.output,
            ends=ends,
        )

    for position, fill in enumerate(fills):
        for mode in modes:
            suffix = f"_{fill}" if position else ""
            ends = _ends({**(known or {}), **areas}, mode, suffix)
            output = steps.run(f"{mode} {fill}", partial(curves, fill, mode, ends))
            areas |= _averaged(output, f"{mode}_area{suffix}")
    if not all(bool(curve.isfinite().all()) for curve in areas.values()):
        raise NotApplicable(_NOT_FINITE)
    return areas


def _ends(curves: Mapping[str, Tensor], mode: RemovalMode, suffix: str) -> Tensor | None:
    """Where a curve begins and ends, (N, 2), from any other under the same fill; None without one."""
    for other in ("deletion", "insertion"):
        for order in ("_random", ""):
            curve = curves.get(f"{other}_area{suffix}{order}")
            if curve is not None:
                return curve[:, [0, -1]] if other == mode else curve[:, [-1, 0]]
    return None


def _averaged(curves: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Average the repeats of a control, name by name; the method's own curve has no suffix."""
    groups: dict[str, list[Tensor]] = {}
    for name, curve in curves.items():
        groups.setdefault(name.split("#")[0], []).append(curve)
    return {prefix + (f"_{name}" if name else ""): torch.stack(group).mean(0) for name, group in groups.items()}


def measurements(curves: Mapping[str, Tensor]) -> tuple[Measurement, ...]:
    """The area under each curve, per example.

    Args:
        curves: As `all_curves` gives them.
    """
    return tuple(_measure(name, curve) for name, curve in curves.items())


def arrays(curves: Mapping[str, Tensor]) -> dict[str, Array]:
    """The curves as evidence stores them; `from_arrays` reads them back.

    Args:
        curves: As `all_curves` gives them.
    """
    return {name.replace("_area", "_curve"): curve.cpu().numpy() for name, curve in curves.items()}


def from_arrays(stored: Mapping[str, Array]) -> dict[str, Tensor]:
    """The curves that `arrays` stored.

    Args:
        stored: The arrays of evidence.
    """
    return {name.replace("_curve", "_area"): torch.from_numpy(array.copy()) for name, array in stored.items()}


def _measure(name: str, curves: Tensor) -> Measurement:
    better = _BETTER[cast(RemovalMode, name.split("_")[0])]
    return Measurement(name, "mean output", better, deletion_area(curves).cpu().double().numpy())


def same_facts(parts: Sequence[Evidence]) -> FaithfulnessFacts:
    """The facts of all images: those of any part, as they say the protocol alone.

    Args:
        parts: Evidence of some of the images each.
    """
    return parts[0].facts_as(FaithfulnessFacts)


def protocol(settings: FaithfulnessSettings) -> Note:
    """The protocol in words; areas of different protocols must not be compared.

    Args:
        settings: Fills, steps, output, random orders and whether the map blurred is a control.
    """
    if not settings.blurred:
        return note(
            "deletion_few_controls",
            "{steps} equal steps over all pixels, highest attribution first, filled with {fills}; the {output} of the "
            "explained class; controls on the same images: {random} random orders (averaged), the centre, an edge "
            "detector.",
            steps=settings.steps,
            fills=list(settings.fills),
            output=[settings.output],
            random=settings.random_orders,
        )
    return note(
        "deletion",
        "{steps} equal steps over all pixels, highest attribution first, filled with {fills}; the {output} of the "
        "explained class; controls on the same images: {random} random orders (averaged), the centre, an edge "
        "detector, the map blurred.",
        steps=settings.steps,
        fills=list(settings.fills),
        output=[settings.output],
        random=settings.random_orders,
    )
