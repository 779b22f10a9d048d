"""The detections of every corruption, and how much of the clean mAP is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from audit.core.statistics import Interval
from audit.metrics.average_precision import AveragePrecision, average_precision, mean_precision
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.metrics.relative_precision import relative_precision
from audit.results.boxes import CellBoxes, boxes_in
from audit.results.queries import group_by_condition
from audit.results.run_results import RunResults, TaskResult
from audit.topics.detection_accuracy.measured import STUDY, classes_in

CORRUPTED_STUDY = "detection-corruption"
_RESAMPLED = 200
"""Bootstrap samples of each of many intervals."""


@dataclass(frozen=True)
class CorruptedDetector:
    """A detector under one corruption at one severity.

    Attributes:
        name: Name of the corruption.
        severity: 1 to 5.
        entries: Its cells.
        matches: Of the detections with the objects.
        precision: mAP; None where no image has an object.
    """

    name: str
    severity: int
    entries: tuple[TaskResult, ...]
    matches: BoxMatches
    precision: AveragePrecision | None


def corrupted_detectors(results: RunResults, role: str) -> tuple[CorruptedDetector, ...]:
    """A detector under each corruption at each severity.

    Args:
        results: The run.
        role: Role of the model.
    """
    found = []
    for at, entries in group_by_condition(results.entries(CORRUPTED_STUDY, role=role), "severity"):
        boxes = boxes_in(entries)
        if boxes is not None:
            found.append(CorruptedDetector(at.method, int(at.setting or 0), entries, *_measured(boxes)))
    return tuple(found)


@dataclass(frozen=True)
class PrecisionLeft:
    """How much of the clean mAP corruptions leave.

    Attributes:
        share: The mean mAP under corruptions over the clean one, on the same images.
        clean: The clean mAP of these images.
        mean: The mean mAP under corruptions itself.
    """

    share: Interval
    clean: float
    mean: Interval


def precision_left(results: RunResults, role: str) -> PrecisionLeft | None:
    """The mean share of the clean mAP that is left, on the images that were corrupted.

    Args:
        results: The run.
        role: Role of the model.
    """
    conditions = [
        boxes
        for _, entries in group_by_condition(results.entries(CORRUPTED_STUDY, role=role), "severity")
        if (boxes := boxes_in(entries)) is not None
    ]
    clean = boxes_in(results.entries(STUDY, role=role))
    return None if clean is None or not conditions else _left(clean, tuple(conditions))


@lru_cache(maxsize=4)
def _left(clean: CellBoxes, conditions: tuple[CellBoxes, ...]) -> PrecisionLeft | None:
    """None where conditions were measured on different images, as in a run that was cut short."""
    images = len(conditions[0].objects.counts)
    if any(len(some.objects.counts) != images for some in conditions) or images > len(clean.objects.counts):
        return None
    classes = max(classes_in(some.objects, some.found) for some in (clean, *conditions))
    before = match_boxes(clean.objects.first(images), clean.found.first(images), classes, ("all",))
    changed = [match_boxes(some.objects, some.found, classes, ("all",)) for some in conditions]
    left = relative_precision(before, changed)
    return None if left is None else PrecisionLeft(left.share, mean_precision(before), left.mean)


@lru_cache(maxsize=256)
def _measured(boxes: CellBoxes) -> tuple[BoxMatches, AveragePrecision | None]:
    matches = match_boxes(boxes.objects, boxes.found, max(1, classes_in(boxes.objects, boxes.found)), ("all",))
    return matches, average_precision(matches, resamples=_RESAMPLED)
