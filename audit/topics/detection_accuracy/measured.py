"""What is read of a detector's evidence by its checks and its section."""

from __future__ import annotations

from dataclasses import dataclass

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.metrics.average_precision import AveragePrecision, average_precision
from audit.metrics.box_matching import match_boxes
from audit.metrics.classification import Reliability
from audit.metrics.detection_calibration import detection_calibration
from audit.metrics.detection_errors import DetectionErrors, detection_errors
from audit.metrics.operating_score import best_f1_score
from audit.results.boxes import boxes_of
from audit.results.run_results import RunResults

STUDY = "detection-accuracy"


@dataclass(frozen=True)
class MeasuredDetector:
    """A detector on clean images.

    Attributes:
        objects: The true objects.
        found: The detections.
        score: The score of the best F1, from which errors are counted.
        precision: mAP; None where no image has an object.
        errors: What became of the detections from `score` on.
        calibration: Reliability of all scores, and its error; None where nothing was found.
    """

    objects: PackedObjects
    found: PackedDetections
    score: float
    precision: AveragePrecision | None
    errors: DetectionErrors
    calibration: tuple[Reliability, Interval] | None


def measured_detector(results: RunResults, role: str, classes: int) -> MeasuredDetector | None:
    """How a detector does on clean images; None where that was not measured.

    Args:
        results: The run.
        role: Role of the model.
        classes: The number of classes.
    """
    packed = boxes_of(results, STUDY, role)
    if packed is None:
        return None
    objects, found = packed
    matches = match_boxes(objects, found, classes)
    score = best_f1_score(matches)
    return MeasuredDetector(
        objects,
        found,
        score,
        average_precision(matches),
        detection_errors(objects, found, score),
        detection_calibration(detection_errors(objects, found, 0.0), found),
    )


def class_count(results: RunResults, role: str) -> int:
    """How many classes have an object or a detection: what mAP is a mean over does not depend on the others.

    Args:
        results: The run.
        role: Role of the model.
    """
    packed = boxes_of(results, STUDY, role)
    if packed is None:
        return 0
    return 1 + int(max([0, *packed[0].labels.tolist(), *packed[1].labels.tolist()]))
