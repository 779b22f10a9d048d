"""What a detector finds under a patch that was made on other images, as evidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.detection_verify import VerifiedDetections, verify_detections
from audit.attacks.detection.detector_patch import detector_patch
from audit.attacks.detection.patch_on_objects import PAINT_SIDE, PatchOnObjects
from audit.attacks.patch import PatchThreat
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.note import note
from audit.core.objects import pack_detections, pack_objects
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.models.detectors.under_test import DetectorUnderTest
from audit.topics.detection_patch.facts import DetectionPatchFacts, DetectionPatchSettings

FEWEST_IMAGES = 8
"""Least number of images for a patch that is made on half of them and scored on the other half."""
_CELLS = 8
"""Rows and columns of the random control on objects."""


@study()
def detection_patch(context: Context, cell: Cell) -> Evidence:
    """The detections under a patch, made on every second image and scored on the others, and under two controls.

    Measurement `distance` (N,): the share of an image's pixels that the patch changed; NaN where it was made on it.
    Arrays of the scored images: `objects_*`, and `clean_*`, `grey_*`, `noise_*`, `patch_*` as `PackedDetections`;
    `covered` (objects,), the share of each one's box under the patch; `paint`, uint8 (1, C, rows, columns); `pictures`,
    uint8 (conditions, P, C, H, W), of the scored images at `pictured` (P,).

    Args:
        context: Gives the detector and the images.
        cell: Its settings are `DetectionPatchSettings`.

    Raises:
        NotApplicable: There are too few images, or the detector gives no gradients.
        Interrupted: The user asked to stop.
    """
    settings = DetectionPatchSettings.of(cell)
    detector, batch = context.detector(), context.batch()
    if len(batch) < FEWEST_IMAGES:
        raise NotApplicable(
            note(
                "patch_few",
                "A patch is made on one half of the images and scored on the other; {images} images are fewer than "
                "the {fewest} that takes.",
                images=len(batch),
                fewest=FEWEST_IMAGES,
            )
        )
    index = torch.arange(len(batch))
    made_on, scored = batch.select(index[0::2]), batch.select(index[1::2])
    with detector.count() as counter:
        paint = _made(context, cell, detector, made_on, settings)
        threat = _threat(settings, scored)
        shared = Generators.of(["all"], seed=cell.seed, purpose="detector patch: control", device=detector.device)
        paints = {
            "clean": None,
            "grey": torch.full_like(paint, 0.5),
            "noise": _random(threat, paint, shared),
            "patch": paint,
        }
        judged = {name: _judged(detector, scored.images, threat, given) for name, given in paints.items()}
    distance = np.full(len(batch), np.nan)
    distance[1::2] = judged["patch"].distance.cpu().double().numpy()
    inside = threat.inside(scored.images.to(detector.device)).expand(len(scored), 1, -1, -1).cpu()
    pictured = _pictured(scored, settings.pictures)
    return measured_evidence(
        cell,
        (Measurement("distance", "share", "neither", distance),),
        arrays={
            **pack_objects(scored.objects or ()).arrays("objects"),
            **{k: v for name, some in judged.items() for k, v in pack_detections(some.found).arrays(name).items()},
            "covered": _covered(scored, inside),
            "paint": _as_bytes(_shown(threat, paint)),
            **_pictures(judged, pictured),
        },
        facts=DetectionPatchFacts(
            kind=settings.kind,
            painted=float(inside.double().mean()),
            made_on=len(made_on),
            faults=int(judged["patch"].faults.sum()),
        ),
        passes=counter.passes,
    )


def _threat(settings: DetectionPatchSettings, batch: Batch) -> PatchOnObjects | PatchThreat:
    if settings.kind == "hide":
        return PatchOnObjects(settings.area, [there.to("cpu") for there in batch.objects or ()])
    return PatchThreat(settings.area)


def _made(
    context: Context, cell: Cell, detector: DetectorUnderTest, batch: Batch, settings: DetectionPatchSettings
) -> Images:
    """The paint, made on these images."""
    steps = iter(range(int(settings.attack["steps"])))

    def on_step() -> None:
        if context.stopping():
            raise Interrupted("The patch was not finished; the same command starts it again.")
        context.progress(next(steps), int(settings.attack["steps"]))

    draws = Generators.of(batch.ids, seed=cell.seed, purpose=f"detector patch {settings.kind}", device=detector.device)
    return detector_patch(detector, batch, _threat(settings, batch), draws, on_step, **settings.attack)


def _judged(
    detector: DetectorUnderTest, images: Images, threat: PatchOnObjects | PatchThreat, paint: Images | None
) -> VerifiedDetections:
    clean = detector.check_images(images)
    return verify_detections(detector, clean, clean if paint is None else threat.painted(clean, paint), threat)


def _random(threat: PatchOnObjects | PatchThreat, paint: Images, draws: Generators) -> Images:
    """Random pixels; on objects in cells so coarse that they are not averaged to grey there."""
    if not isinstance(threat, PatchOnObjects):
        return draws.uniform(*paint.shape[1:])
    cells = draws.uniform(paint.shape[1], _CELLS, _CELLS)
    return cells.repeat_interleave(PAINT_SIDE // _CELLS, 2).repeat_interleave(PAINT_SIDE // _CELLS, 3)


def _covered(batch: Batch, inside: Tensor) -> Array:
    """The share of each object's box under the patch, float64 (objects,)."""
    shares = [np.zeros(0)]
    for there, mask in zip(batch.objects or (), inside[:, 0], strict=True):
        for box in there.boxes.cpu():
            x1, y1 = box[:2].floor().int().clamp(min=0).tolist()
            x2, y2 = box[2:].ceil().int().tolist()
            part = mask[y1:y2, x1:x2].double()
            shares.append(np.array([float(part.mean()) if part.numel() else 0.0]))
    return np.concatenate(shares)


def _pictured(batch: Batch, count: int) -> list[int]:
    """The first images that have objects."""
    return [i for i, there in enumerate(batch.objects or ()) if len(there)][:count]


def _pictures(judged: Mapping[str, VerifiedDetections], pictured: list[int]) -> dict[str, Array]:
    if not pictured:
        return {}
    images = torch.stack([some.images[pictured] for some in judged.values()])
    return {"pictures": _as_bytes(images), "pictured": np.array(pictured, np.int64)}


def _shown(threat: PatchOnObjects | PatchThreat, paint: Images) -> Images:
    """The paint without what does not count of it."""
    if isinstance(threat, PatchOnObjects):
        return paint
    inside = threat.inside(paint)[0, 0]
    return paint[:, :, inside.any(1)][..., inside.any(0)]


def _as_bytes(images: Images) -> Array:
    pixels: Array = np.rint(images.cpu().numpy() * 255).astype(np.uint8)
    return pixels
