"""mAP, errors by kind, calibration of scores and pictures of errors: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from audit.core.boxes import Boxes, PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.document.images import picture
from audit.document.model import Cost, DocumentModel, Picture, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.box_matching import OBJECT_SIZES
from audit.metrics.detection_errors import OUTCOMES, DetectionErrors
from audit.results.run_results import RunResults
from audit.topics.accuracy.section import ReliabilityBin, reliability_rows
from audit.topics.detection_accuracy.measured import STUDY, MeasuredDetector, measured_detector

SHOWN_SIZE = 256
"""Longest side of a picture in pixels: boxes are drawn on it."""


class DetectedClass(DocumentModel):
    """One class.

    Attributes:
        name: Its name.
        objects: Its objects, crowds left out.
        average_precision: Over overlaps .50 to .95, in [0, 1].
        found: Share of its objects found by detections from the operating score on, in [0, 1].
    """

    name: str
    objects: int
    average_precision: float
    found: float


class DetectedSize(DocumentModel):
    """Objects of one range of sizes.

    Attributes:
        name: "small", "medium" or "large".
        least: Least area in square pixels.
        average_precision: Over overlaps .50 to .95; None where no object is of that size.
    """

    name: str
    least: float
    average_precision: Proportion | None


class DetectionPart(DocumentModel):
    """One detector on clean images.

    Attributes:
        role: Its role.
        images: Number of images.
        objects: Number of objects, crowds left out.
        mean_average_precision: Over overlaps .50 to .95, with its interval over images.
        at_50: At overlap .50.
        at_75: At overlap .75.
        recall: COCO's average recall, in [0, 1].
        sizes: By size of object.
        classes: The classes that have objects, that of the lowest average precision first.
        score: The operating score, from which errors are counted, in [0, 1].
        outcomes: By kind, how many detections from that score on; and "missed", of objects.
        calibration_error: The detection calibration error of all scores; None where nothing was found.
        reliability: The bins of the reliability diagram, in order of score.
        cost: What it cost.
    """

    role: str
    images: int
    objects: int
    mean_average_precision: Proportion
    at_50: Proportion
    at_75: Proportion
    recall: float
    sizes: list[DetectedSize]
    classes: list[DetectedClass]
    score: float
    outcomes: dict[str, int]
    calibration_error: Proportion | None
    reliability: list[ReliabilityBin]
    cost: Cost


class DrawnBox(DocumentModel):
    """A box on a picture.

    Attributes:
        corners: x1, y1, x2, y2 as shares of the width and the height.
        label: Name of its class.
        score: Of a detection; None for an object.
        kind: "object" or "missed" of an object, else what became of the detection.
    """

    corners: tuple[float, float, float, float]
    label: str
    score: float | None
    kind: str


class DetectionPicture(DocumentModel):
    """An image with its objects and what one detector found.

    Attributes:
        role: The detector's role.
        id: Name of the image.
        kinds: The kinds of error on it, those of `OUTCOMES` and "missed".
        image: The picture.
        boxes: Objects and detections.
    """

    role: str
    id: str
    kinds: list[str]
    image: Picture
    boxes: list[DrawnBox]


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each detector of the run.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    parts: list[DetectionPart] = []
    pictures: list[DetectionPicture] = []
    for role in context.roles:
        measured = measured_detector(results, role, len(context.classes))
        if measured is None or measured.precision is None:
            continue
        parts.append(_part(results, role, measured, context.classes))
        if context.pictures:
            pictures += _pictures(results, role, measured, context.classes)
    return {"detection_accuracy": parts, "detection_pictures": pictures}


def _part(results: RunResults, role: str, measured: MeasuredDetector, classes: Sequence[str]) -> DetectionPart:
    precision = measured.precision
    assert precision is not None
    return DetectionPart(
        role=role,
        images=len(measured.objects.counts),
        objects=int((~measured.objects.crowd).sum()),
        mean_average_precision=proportion(precision.mean),
        at_50=proportion(precision.at_50),
        at_75=proportion(precision.at_75),
        recall=precision.recall,
        sizes=[
            DetectedSize(name=name, least=OBJECT_SIZES[name][0], average_precision=_optional(interval))
            for name, interval in precision.by_size.items()
        ],
        classes=sorted(_classes(measured, classes), key=lambda row: row.average_precision),
        score=measured.score,
        outcomes=dict(measured.errors.counts),
        calibration_error=proportion(measured.calibration[1]) if measured.calibration else None,
        reliability=reliability_rows(measured.calibration[0]) if measured.calibration else [],
        cost=cost_of(results.entries(STUDY, role=role)),
    )


def _optional(interval: Interval | None) -> Proportion | None:
    return None if interval is None else proportion(interval)


def _classes(measured: MeasuredDetector, classes: Sequence[str]) -> Iterator[DetectedClass]:
    assert measured.precision is not None
    single = ~measured.objects.crowd
    for position, name in enumerate(classes):
        own = single & (measured.objects.labels == position)
        if own.any():
            yield DetectedClass(
                name=name,
                objects=int(own.sum()),
                average_precision=float(measured.precision.by_class[position]),
                found=float(measured.errors.found[own].mean()),
            )


def _pictures(
    results: RunResults, role: str, measured: MeasuredDetector, classes: Sequence[str]
) -> Iterator[DetectionPicture]:
    images = results.array(STUDY, "pictures", role=role)
    positions = results.array(STUDY, "pictured", role=role)
    if images is None or positions is None:
        return
    for image, position in zip(images, positions.tolist(), strict=True):
        boxes = list(drawn_boxes(measured.objects, measured.found, measured.errors, position, classes, image.shape[1:]))
        kinds = [kind for kind in ("missed", *OUTCOMES) if any(box.kind == kind for box in boxes)]
        yield DetectionPicture(
            role=role,
            id=f"#{position}",
            kinds=[kind for kind in kinds if kind not in ("right", "crowd")],
            image=picture(image, largest=SHOWN_SIZE),
            boxes=boxes,
        )


def drawn_boxes(
    objects: PackedObjects,
    found: PackedDetections,
    errors: DetectionErrors,
    position: int,
    classes: Sequence[str],
    size: tuple[int, int],
) -> Iterator[DrawnBox]:
    """The objects of an image and the detections in it that were counted.

    Args:
        objects: The objects of all images.
        found: The detections in them.
        errors: What became of both.
        position: Which image.
        classes: Names of the classes.
        size: Height and width of the image in pixels.
    """
    for at in range(*objects.rows(position).indices(len(objects.labels))):
        kind = "missed" if errors.missed[at] else "object"
        yield DrawnBox(
            corners=_corners(objects.boxes[at], size), label=classes[objects.labels[at]], score=None, kind=kind
        )
    for at in range(*found.rows(position).indices(len(found.labels))):
        if errors.outcomes[at] >= 0:
            yield DrawnBox(
                corners=_corners(found.boxes[at], size),
                label=classes[found.labels[at]],
                score=float(found.scores[at]),
                kind=OUTCOMES[errors.outcomes[at]],
            )


def _corners(box: Boxes, size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size
    x1, y1, x2, y2 = (np.clip(box / np.array([width, height, width, height]), 0, 1)).tolist()
    return x1, y1, x2, y2
