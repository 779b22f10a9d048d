"""Kinds of error on drawn cases, against the matching of COCO, and the calibration of scores."""

from __future__ import annotations

import numpy as np
import pytest

from audit.core.boxes import PackedDetections, PackedObjects
from audit.metrics.box_matching import match_boxes
from audit.metrics.detection_calibration import detection_calibration
from audit.metrics.detection_errors import OUTCOMES, DetectionErrors, detection_errors, iou
from tests.random_detections import random_detections, random_objects, the_truth


def one_image(
    objects: list[tuple[list[float], int, bool]], found: list[tuple[list[float], int, float]]
) -> tuple[PackedObjects, PackedDetections]:
    boxes = np.array([o[0] for o in objects], np.float32).reshape(-1, 4)
    labels = np.array([o[1] for o in objects], np.int64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    crowd = np.array([o[2] for o in objects], bool)
    truth = PackedObjects(np.array([len(objects)]), boxes, labels, areas, crowd)
    return truth, PackedDetections(
        np.array([len(found)]),
        np.array([f[0] for f in found], np.float32).reshape(-1, 4),
        np.array([f[1] for f in found], np.int64),
        np.array([f[2] for f in found], np.float32),
    )


A = [0.0, 0.0, 10.0, 10.0]
NEAR = [0.0, 0.0, 10.0, 30.0]  # overlap with A 1/3
FAR = [50.0, 50.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("found", "outcomes", "missed"),
    [
        ([(A, 0, 0.9)], ["right"], 0),
        ([(A, 0, 0.9), (A, 0, 0.8)], ["right", "duplicate"], 0),
        ([(A, 1, 0.9)], ["wrong_class"], 0),
        ([(NEAR, 0, 0.9)], ["badly_placed"], 0),
        ([(NEAR, 1, 0.9)], ["both"], 1),
        ([(FAR, 0, 0.9)], ["false"], 1),
        ([(NEAR, 0, 0.9), (A, 0, 0.8)], ["badly_placed", "right"], 0),
        ([], [], 1),
    ],
    ids=["right", "twice", "class", "place", "both", "false", "placed-first", "none"],
)
def test_each_kind(found: list[tuple[list[float], int, float]], outcomes: list[str], missed: int) -> None:
    errors = detection_errors(*one_image([(A, 0, False)], found), score=0.5)
    assert [OUTCOMES[i] for i in errors.outcomes] == outcomes
    assert errors.counts["missed"] == missed


def test_a_low_score_is_left_out_and_the_object_missed() -> None:
    errors = detection_errors(*one_image([(A, 0, False)], [(A, 0, 0.4)]), score=0.5)
    assert errors.outcomes.tolist() == [-1]
    assert errors.counts["missed"] == 1


def test_a_box_on_a_crowd_is_no_error() -> None:
    crowd = [0.0, 0.0, 40.0, 40.0]
    truth, found = one_image([(crowd, 0, True)], [(A, 0, 0.9), (A, 1, 0.9)])
    errors = detection_errors(truth, found, score=0.5)
    assert [OUTCOMES[i] for i in errors.outcomes] == ["crowd", "false"]
    assert errors.counts["missed"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_what_is_right_is_what_coco_matches(seed: int) -> None:
    """Without crowds the right detections are, as COCO says it, those that match at overlap .5."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    objects = random_objects(rng, 25, 3)
    objects = PackedObjects(objects.counts, objects.boxes, objects.labels, objects.areas, np.zeros_like(objects.crowd))
    detections = random_detections(rng, objects, 3)
    errors = detection_errors(objects, detections, score=0.0)
    matches = match_boxes(objects, detections, 3, sizes=("all",)).by_size["all"]
    assert errors.counts["right"] == sum(int(m.right[0].sum()) for m in matches) > 0


def test_the_truth_has_no_errors() -> None:
    objects = random_objects(np.random.default_rng(0), 30, 3)
    errors = detection_errors(objects, the_truth(objects), score=0.5)
    assert sum(errors.counts.values()) == errors.counts["right"] == (~objects.crowd).sum()
    assert errors.found.all()


def test_overlap_of_boxes() -> None:
    first = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    second = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(iou(first, second), np.array([[1 / 3, 1, 0], [0, 0, 0]]))


def _scored(scores: np.ndarray, right: np.ndarray, images: int) -> tuple[DetectionErrors, PackedDetections]:
    n = len(scores)
    outcomes = np.where(right, OUTCOMES.index("right"), OUTCOMES.index("false"))
    nothing = np.zeros(0, bool)
    boxes = np.zeros((n, 4), np.float32)
    found = PackedDetections(np.full(images, n // images), boxes, np.zeros(n, np.int64), scores.astype(np.float32))
    return DetectionErrors(outcomes, nothing, nothing, np.full(n, -1)), found


def test_calibrated_scores_have_a_small_error_and_doubled_ones_their_gap() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    calibrated = detection_calibration(*_scored(scores, rng.random(20_000) < scores, 1000))
    assert calibrated is not None
    assert calibrated[1].estimate < 0.02
    overconfident = detection_calibration(*_scored(scores, rng.random(20_000) < scores / 2, 1000))
    assert overconfident is not None
    error = overconfident[1]
    assert error.low <= 0.25 <= error.high
    assert error.high - error.low < 0.03


def test_nothing_found_has_no_calibration() -> None:
    assert detection_calibration(*_scored(np.zeros(0), np.zeros(0, bool), 1)) is None
