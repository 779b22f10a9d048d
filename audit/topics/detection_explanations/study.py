"""Maps of found boxes, with how well they do, as evidence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.note import note
from audit.core.objects import Detections
from audit.core.registry import find, study
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.masking.baselines import blur
from audit.metrics.deletion_insertion import RemovalMode
from audit.metrics.detection_pointing import box_pointing, mass_inside
from audit.metrics.detection_removal import box_order, box_removal_curves
from audit.metrics.pixel_ranking import control_order, order_of
from audit.models.detectors.under_test import DetectorUnderTest
from audit.topics.detection_explanations.facts import BoxFacts

MODES: tuple[RemovalMode, ...] = ("deletion", "insertion")
_LEAST_SCORE = 0.3
"""Boxes that score less are not explained: an operating score is seldom below it."""
_BLUR = 0.1
"""Width of the blur that insertion starts from, in units of the shorter side."""


@study()
def box_explanation(context: Context, cell: Cell) -> Evidence:
    """The map of each explained box by one method, R boxes in all, and how it does.

    `cell.method` names the attribution. Measurement `boxes` (N,): how many are explained. Arrays: `deletion` and
    `insertion` (R,), areas under the curves; `pointing`, whether the highest value lies in the box; `mass`, the share
    of the positive part that does; `owners` int64 (R,), positions in the audit order; `boxes` (R, 4), `labels` and
    `scores`; of the first P boxes `maps` float32 (P, H, W) and `pictures` uint8 (P, C, H, W).

    Args:
        context: Gives the detector and the images.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
        NotApplicable: The method does not apply to the detector, or it finds no box.
    """
    method = find("detection-attribution", cell.method)
    own = {name: value for name, value in cell.settings.items() if name in method.defaults}
    detector, batch = context.detector(), context.batch()
    maps: list[Tensor] = []
    curves: list[Tensor] = []
    with detector.count() as counter:
        targets = explained_boxes(detector, batch, int(cell.settings["boxes"]))
        for row, some in enumerate(targets):
            if context.stopping():
                raise Interrupted(f"{cell.method} was not finished; the same command starts it again.")
            one, generators = batch.images[row : row + 1], _generators(context, cell, batch.ids[row])
            (own_maps,) = method.function(detector, one, [some], generators, **own)
            orders = order_of(own_maps[:, None].cpu(), _repeated(generators, len(some)))
            maps.append(own_maps.cpu())
            curves.append(_diagonal(_curves(detector, one, some, orders, int(cell.settings["steps"]))))
            context.progress(row + 1, len(targets))
    packed, every = _packed(targets, context.task.examples.start), torch.cat(maps)
    areas = _areas(torch.cat(curves, 1))
    shown = int(cell.settings["pictures"])
    owners = packed["owners"][:shown] - context.task.examples.start
    boxes = torch.from_numpy(packed["boxes"])
    return measured_evidence(
        cell,
        (_count(targets),),
        arrays={
            **packed,
            "deletion": areas[0],
            "insertion": areas[1],
            "pointing": box_pointing(every, boxes).double().numpy(),
            "mass": mass_inside(every, boxes).double().numpy(),
            "maps": every[:shown].numpy(),
            "pictures": np.rint(batch.images[owners].cpu().numpy() * 255).astype(np.uint8),
        },
        facts=_facts(targets),
        passes=counter.passes,
    )


@study()
def box_controls(context: Context, cell: Cell) -> Evidence:
    """The curves of orders that know nothing of the detector: pixels at random, and the box's pixels first.

    Measurement and arrays as `box_explanation` has them, without maps; the areas are `deletion_random`,
    `insertion_random`, `deletion_box` and `insertion_box`, and `share` is the box's share of the image.

    Args:
        context: Gives the detector and the images.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
        NotApplicable: The detector finds no box.
    """
    detector, batch = context.detector(), context.batch()
    by_random: list[Tensor] = []
    by_box: list[Tensor] = []
    size = (batch.images.shape[2], batch.images.shape[3])
    with detector.count() as counter:
        targets = explained_boxes(detector, batch, int(cell.settings["boxes"]))
        for row, some in enumerate(targets):
            if context.stopping():
                raise Interrupted("The controls were not finished; the same command starts them again.")
            one = batch.images[row : row + 1]
            chance = control_order("random", one, _generators(context, cell, batch.ids[row])).cpu()
            first = [box_order(box, chance[0], size) for box in some.boxes.cpu()]
            curves = _curves(detector, one, some, torch.stack([chance[0], *first]), int(cell.settings["steps"]))
            by_random.append(curves[:, 0])
            by_box.append(_diagonal(curves[:, 1:]))
            context.progress(row + 1, len(targets))
    chance_areas, box_areas = (_areas(torch.cat(part, 1)) for part in (by_random, by_box))
    packed = _packed(targets, context.task.examples.start)
    boxes = packed["boxes"]
    share = (boxes[:, 2:] - boxes[:, :2]).prod(1).astype(np.float64) / (size[0] * size[1])
    return measured_evidence(
        cell,
        (_count(targets),),
        arrays={
            **packed,
            "deletion_random": chance_areas[0],
            "insertion_random": chance_areas[1],
            "deletion_box": box_areas[0],
            "insertion_box": box_areas[1],
            "share": share,
        },
        facts=_facts(targets),
        passes=counter.passes,
    )


def explained_boxes(detector: DetectorUnderTest, batch: Batch, most: int) -> list[Detections]:
    """The boxes of each image that are explained: those of the highest scores, from .3 on.

    Args:
        detector: The detector.
        batch: The images.
        most: Boxes an image.

    Raises:
        NotApplicable: There is none in any image.
    """
    targets = []
    for found in detector.detect(batch.images):
        count = min(most, int((found.scores >= _LEAST_SCORE).sum()))
        targets.append(Detections(found.boxes[:count], found.labels[:count], found.scores[:count]))
    if not any(len(some) for some in targets):
        raise NotApplicable(
            note("boxes_none_found", "The detector finds nothing that scores at least .3 in the images to explain.")
        )
    return targets


def _curves(detector: DetectorUnderTest, image: Images, targets: Detections, orders: Tensor, steps: int) -> Tensor:
    """Of both modes, (2, orders, targets, steps + 1) on the CPU."""
    checked = detector.check_images(image)
    fills = {
        "deletion": checked.mean((2, 3), keepdim=True).expand_as(checked),
        "insertion": blur(checked, _BLUR * min(checked.shape[2:])),
    }
    own = orders.to(detector.device)
    parts = [
        box_removal_curves(detector, checked, targets, own, fill=fills[mode], mode=mode, steps=steps) for mode in MODES
    ]
    return torch.stack(parts).cpu()


def _diagonal(curves: Tensor) -> Tensor:
    """Each target under its own order, (2, targets, steps + 1)."""
    return curves.diagonal(dim1=1, dim2=2).transpose(1, 2)


def _areas(curves: Tensor) -> tuple[Array, Array]:
    """The areas under the curves of both modes, by trapezoids, (R,) each."""
    areas = torch.trapezoid(curves.double(), dx=1 / (curves.shape[2] - 1), dim=2)
    return areas[0].numpy(), areas[1].numpy()


def _packed(targets: list[Detections], first: int) -> dict[str, Array]:
    owners = np.repeat(np.arange(len(targets)), [len(some) for some in targets]) + first
    columns = {
        name: torch.cat([getattr(some, name).cpu() for some in targets]) for name in ("boxes", "labels", "scores")
    }
    return {"owners": owners, **{name: column.numpy() for name, column in columns.items()}}


def _count(targets: list[Detections]) -> Measurement:
    return Measurement("boxes", "boxes", "neither", np.array([len(some) for some in targets], np.float64))


def _facts(targets: list[Detections]) -> BoxFacts:
    scores = torch.cat([some.scores for some in targets])
    return BoxFacts(boxes=len(scores), least_score=float(scores.min()))


def _generators(context: Context, cell: Cell, name: str) -> Generators:
    return Generators.of([name], seed=cell.seed, purpose=f"boxes {cell.method}", device=context.device)


def _repeated(generators: Generators, count: int) -> Generators:
    return Generators(generators.keys.cpu().repeat(count))
