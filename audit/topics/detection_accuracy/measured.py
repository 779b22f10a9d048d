"""What is read of a detector's evidence by its checks and its section."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.metrics.average_precision import AveragePrecision, average_precision
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.metrics.classification import Reliability
from audit.metrics.detection_calibration import detection_calibration
from audit.metrics.detection_errors import DetectionErrors, detection_errors
from audit.metrics.operating_score import best_f1_score
from audit.results.boxes import CellBoxes, boxes_in, boxes_of
from audit.results.run_results import RunResults

STUDY = "detection-accuracy"


@dataclass(frozen=True)
class MeasuredDetector:
    """A detector on clean images.

    Attributes:
        objects: The true objects.
        found: The detections.
        matches: The same against the objects.
        score: The score of the best F1, from which errors are counted.
        precision: mAP; None where no image has an object.
        errors: What became of the detections from `score` on.
        calibration: Reliability of all scores, and its error; None where nothing was found.
    """

    objects: PackedObjects
    found: PackedDetections
    matches: BoxMatches
    score: float
    precision: AveragePrecision | None
    errors: DetectionErrors
    calibration: tuple[Reliability, Interval] | None


def measured_detector(results: RunResults, role: str, classes: int = 0) -> MeasuredDetector | None:
    """How a detector does on clean images; None where that was not measured.

    Args:
        results: The run.
        role: Role of the model.
        classes: The number of classes; 0 for those up to the last that occurs, of which mAP is the same.
    """
    boxes = boxes_in(results.entries(STUDY, role=role))
    return None if boxes is None else _measured(boxes, max(classes, classes_in(boxes.objects, boxes.found)))


def class_count(results: RunResults, role: str) -> int:
    """How many classes there are up to the last that occurs on clean images; 0 where that was not measured.

    Args:
        results: The run.
        role: Role of the model.
    """
    boxes = boxes_of(results, STUDY, role)
    return 0 if boxes is None else classes_in(*boxes)


def classes_in(objects: PackedObjects, found: PackedDetections) -> int:
    """How many classes there are up to the last that has an object or a detection: mAP does not depend on others.

    Args:
        objects: The true objects.
        found: The detections.
    """
    return 1 + int(max([-1, *objects.labels.tolist(), *found.labels.tolist()]))


@lru_cache(maxsize=8)
def _measured(boxes: CellBoxes, classes: int) -> MeasuredDetector:
    """Kept, as the checks and the section of a report ask for the same."""
    objects, found = boxes.objects, boxes.found
    matches = match_boxes(objects, found, max(1, classes))
    score = best_f1_score(matches)
    return MeasuredDetector(
        objects,
        found,
        matches,
        score,
        average_precision(matches),
        detection_errors(objects, found, score),
        detection_calibration(detection_errors(objects, found, 0.0), found),
    )
