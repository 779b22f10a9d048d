"""What a detector finds on clean images, as evidence."""

from __future__ import annotations

import numpy as np

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.objects import Detections, pack_detections, pack_objects
from audit.core.registry import study
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.box_matching import match_boxes
from audit.metrics.detection_errors import OUTCOMES, DetectionErrors, detection_errors
from audit.metrics.operating_score import best_f1_score

_STRIDE = 64
"""Images asked at a time; a stop takes effect in between."""
_SHOWN = ("wrong_class", "badly_placed", "both", "duplicate", "false")


@study()
def detection_accuracy(context: Context, cell: Cell) -> Evidence:
    """The detections in clean images beside the objects.

    Measurement `f1` (N,): of each image's detections that score at least the cell's best balance, 1 for an empty image
    that is found empty. Arrays: `objects_*` and `found_*`, see `PackedObjects` and `PackedDetections`; `pictures`,
    uint8 (P, C, H, W), of images with errors of each kind, and `pictured`, their positions in the audit order.

    Args:
        context: Gives the detector and the images.
        cell: Its setting `pictures` is how many of each kind.

    Raises:
        Interrupted: The user asked to stop.
    """
    detector, batch = context.detector(), context.batch()
    answers: list[Detections] = []
    with detector.count() as counter:
        for start in range(0, len(batch), _STRIDE):
            if context.stopping():
                raise Interrupted("Stopped before the images were searched; the same command resumes.")
            answers += detector.detect(batch.images[start : start + _STRIDE])
            context.progress(min(start + _STRIDE, len(batch)), len(batch))
    objects, found = pack_objects(batch.objects or ()), pack_detections(answers)
    score = best_f1_score(match_boxes(objects, found, len(detector.classes), sizes=("all",)))
    errors = detection_errors(objects, found, score)
    return measured_evidence(
        cell,
        (Measurement("f1", "share", "higher", f1_by_image(objects, found, errors)),),
        arrays={
            **objects.arrays("objects"),
            **found.arrays("found"),
            **_pictures(batch, objects, found, errors, int(cell.settings["pictures"]), context.task.examples.start),
        },
        passes=counter.passes,
    )


def f1_by_image(objects: PackedObjects, found: PackedDetections, errors: DetectionErrors) -> Array:
    """F1 of each image, float64 (N,): 1 where nothing is there and nothing was found.

    Args:
        objects: The true objects of N images.
        found: The detections.
        errors: What became of them.
    """
    images = len(objects.counts)
    row_of_detection = np.repeat(np.arange(images), found.counts)
    row_of_object = np.repeat(np.arange(images), objects.counts)
    counted = (errors.outcomes >= 0) & (errors.outcomes != OUTCOMES.index("crowd"))
    right = np.bincount(row_of_detection[errors.outcomes == OUTCOMES.index("right")], minlength=images)
    given = np.bincount(row_of_detection[counted], minlength=images)
    there = np.bincount(row_of_object[~objects.crowd], minlength=images)
    total = given + there
    return np.where(total > 0, 2 * right / np.maximum(total, 1), 1.0)


def _pictures(
    batch: Batch, objects: PackedObjects, found: PackedDetections, errors: DetectionErrors, each: int, first: int
) -> dict[str, Array]:
    """Images with the surest errors of each kind, and the positions of these images."""
    images = len(objects.counts)
    row_of_detection = np.repeat(np.arange(images), found.counts)
    missed = np.bincount(np.repeat(np.arange(images), objects.counts)[errors.missed], minlength=images)
    chosen = [int(row) for row in np.argsort(-missed, kind="stable")[:each] if missed[row]]
    for kind in _SHOWN:
        rows = row_of_detection[errors.outcomes == OUTCOMES.index(kind)]
        scores = found.scores[errors.outcomes == OUTCOMES.index(kind)]
        surest = dict.fromkeys(rows[np.argsort(-scores, kind="stable")].tolist())
        chosen += list(surest)[:each]
    if each and not chosen:
        chosen = list(range(min(each, images)))
    rows = np.array(list(dict.fromkeys(chosen)), np.int64)
    pixels = np.rint(batch.images[rows].cpu().numpy() * 255).astype(np.uint8)
    return {"pictures": pixels, "pictured": rows + first}
