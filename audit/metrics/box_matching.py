"""Matching what a detector found to the true objects, as COCO does it: done by pycocotools, kept image by image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.errors import SetupError, UsageError

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""The overlaps (intersection over union) of COCO's mAP."""
OBJECT_SIZES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges of an object's area in square pixels, bounds included."""
MOST_DETECTIONS = 100
"""The detections of a class in an image that count, by falling score."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class within one range of sizes, by falling score over all images; D of them.

    Attributes:
        image: Position of the image of each, int64 (D,).
        scores: Float64 (D,).
        right: Whether it matches an object of the class, by overlap asked, bool (10, D).
        wrong: Whether it matches none, bool (10, D). One that matches a crowd, or an object of another size, or is
            itself of another size and matches none, is neither.
        objects: Objects of the class and the size in each image, int64 (N,).
    """

    image: NDArray[np.int64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True)
class BoxMatches:
    """The detections in N images against their objects.

    Attributes:
        images: N.
        classes: Number of classes, K.
        by_size: By name of a range of `OBJECT_SIZES`, the matches of each class in order.
    """

    images: int
    classes: int
    by_size: dict[str, tuple[ClassMatches, ...]]


def match_boxes(
    objects: PackedObjects, detections: PackedDetections, classes: int, sizes: Sequence[str] = tuple(OBJECT_SIZES)
) -> BoxMatches:
    """Match detections to objects by pycocotools' `COCOeval.evaluate`, the reference implementation.

    By class, image and overlap, detections take by falling score the object that they overlap most, if it is free;
    objects outside the range of sizes and crowds may be matched without anything being counted.

    Args:
        objects: The true objects of N images.
        detections: What was found in the same images.
        classes: Number of classes; labels are 0 to classes - 1.
        sizes: Which ranges of sizes, names in `OBJECT_SIZES`. Sizes are those of the images as the detector gets them.

    Raises:
        UsageError: The numbers of images differ, or a label is no class.
        SetupError: pycocotools is not installed.
    """
    images = len(objects.counts)
    if len(detections.counts) != images:
        raise UsageError(
            f"Objects of {images} images and detections in {len(detections.counts)}: give both for the same images."
        )
    for name, labels in (("An object", objects.labels), ("A detection", detections.labels)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            bad = int(labels.min() if labels.min() < 0 else labels.max())
            raise UsageError(f"{name} has the class {bad}; the classes are 0 to {classes - 1}.")
    evaluated = _evaluate(objects, detections, classes, sizes)
    by_size: dict[str, tuple[ClassMatches, ...]] = {}
    for position, size in enumerate(sizes):
        by_size[size] = tuple(
            _class_matches(evaluated[(k * len(sizes) + position) * images :][:images], images) for k in range(classes)
        )
    return BoxMatches(images, classes, by_size)


def _evaluate(
    objects: PackedObjects, detections: PackedDetections, classes: int, sizes: Sequence[str]
) -> list[dict[str, Any] | None]:
    """The evaluations of pycocotools: by class, then by size, then by image; None where there is no box."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as fault:
        raise SetupError("mAP needs pycocotools: `pip install 'audit[detection]'`.") from fault
    images = len(objects.counts)
    with redirect_stdout(io.StringIO()):  # it reports its seconds
        truth, found = COCO(), COCO()
        truth.dataset = _dataset(objects, classes, crowd=objects.crowd, area=objects.areas)
        found.dataset = _dataset(detections, classes, score=detections.scores)
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = list(range(images))
        evaluation.params.catIds = list(range(classes))
        evaluation.params.iouThrs = OVERLAPS
        evaluation.params.areaRng = [list(OBJECT_SIZES[size]) for size in sizes]
        evaluation.params.areaRngLbl = list(sizes)
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.evaluate()
    return list(evaluation.evalImgs)


def _dataset(
    packed: PackedObjects | PackedDetections,
    classes: int,
    *,
    crowd: NDArray[np.bool_] | None = None,
    area: NDArray[np.float32] | None = None,
    score: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Boxes as a COCO data set; ids begin at 1, as pycocotools takes 0 for "not matched"."""
    boxes = packed.boxes.astype(np.float64)
    spans = boxes[:, 2:] - boxes[:, :2]
    image = np.repeat(np.arange(len(packed.counts)), packed.counts)
    rows = [
        {
            "id": i + 1,
            "image_id": int(image[i]),
            "category_id": int(packed.labels[i]),
            "bbox": [*boxes[i, :2].tolist(), *spans[i].tolist()],
            "area": float(spans[i].prod() if area is None else area[i]),
            "iscrowd": int(crowd[i]) if crowd is not None else 0,
            **({} if score is None else {"score": float(score[i])}),
        }
        for i in range(len(packed.labels))
    ]
    return {
        "images": [{"id": i} for i in range(len(packed.counts))],
        "categories": [{"id": k} for k in range(classes)],
        "annotations": rows,
    }


def _class_matches(evaluations: Sequence[dict[str, Any] | None], images: int) -> ClassMatches:
    objects = np.zeros(images, np.int64)
    rows: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.float64]] = []
    matched, ignored = [np.zeros((len(OVERLAPS), 0), np.bool_)], [np.zeros((len(OVERLAPS), 0), np.bool_)]
    for image, evaluation in enumerate(evaluations):
        if evaluation is None:
            continue
        objects[image] = np.count_nonzero(np.asarray(evaluation["gtIgnore"]) == 0)
        scores.append(np.asarray(evaluation["dtScores"], np.float64))
        rows.append(np.full(len(scores[-1]), image, np.int64))
        matched.append(np.asarray(evaluation["dtMatches"]) > 0)
        ignored.append(np.asarray(evaluation["dtIgnore"]) > 0)
    score = np.concatenate([np.zeros(0), *scores])
    order = np.argsort(-score, kind="stable")
    match, ignore = np.concatenate(matched, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    row = np.concatenate([np.zeros(0, np.int64), *rows])[order]
    return ClassMatches(row, score[order], match & ~ignore, ~match & ~ignore, objects)
