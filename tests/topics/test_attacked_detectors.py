"""Robust mAP of a detector: of each image the attack that left least, within the ball asked about."""

from __future__ import annotations

import numpy as np
import pytest

from audit.core.boxes import PackedDetections, PackedObjects
from audit.metrics.average_precision import average_precision
from audit.metrics.box_matching import match_boxes
from audit.topics.detection_robustness.facts import DetectionAttackFacts
from audit.topics.detection_robustness.measured import AttackedDetector, MeasuredAttack, pick_images
from tests.random_detections import random_detections, random_objects, repeated, the_truth

pytest.importorskip("pycocotools")


def _attack(objects: PackedObjects, found: PackedDetections, eps: float, aim: str) -> MeasuredAttack:
    facts = DetectionAttackFacts(norm="linf", eps=eps, aim=aim, control=not aim, faults=0)
    return MeasuredAttack(facts, (), found, match_boxes(objects, found, 3, sizes=("all",)))


def _spoiled(truth: PackedDetections, images: range) -> PackedDetections:
    """The truth, but in some images, where every box is far off."""
    row = np.repeat(np.arange(len(truth.counts)), truth.counts)
    boxes = np.where(np.isin(row, list(images))[:, None], truth.boxes + 500, truth.boxes)
    return PackedDetections(truth.counts, boxes.astype(np.float32), truth.labels, truth.scores)


def test_the_worst_attack_of_each_image_counts_and_larger_balls_hold_smaller_ones() -> None:
    objects = random_objects(np.random.default_rng(0), 24, 3)
    truth = the_truth(objects)
    small, first, second = _spoiled(truth, range(4)), _spoiled(truth, range(4, 10)), _spoiled(truth, range(10, 16))
    clean = match_boxes(objects, truth, 3, sizes=("all",))
    attacks = (
        _attack(objects, small, 0.1, "vanish"),
        _attack(objects, first, 0.2, "vanish"),
        _attack(objects, second, 0.2, "mislabel"),
    )
    measured = AttackedDetector(objects, truth, clean, attacks, 0.2)
    assert measured.clean_map.estimate == 1.0
    np.testing.assert_array_equal(measured.worst(0.1).boxes, small.boxes)
    both = _spoiled(truth, range(16))
    np.testing.assert_array_equal(measured.worst(0.2).boxes, both.boxes)
    expected = average_precision(match_boxes(objects, both, 3, sizes=("all",)), resamples=2)
    assert expected is not None
    assert measured.robust[0.2][1].estimate == pytest.approx(expected.mean.estimate)
    assert measured.robust[0.2][1].estimate < measured.robust[0.1][1].estimate < 1.0
    alone = _spoiled(truth, range(24))
    swept = AttackedDetector(objects, truth, clean, (*attacks, _attack(objects, alone, 0.2, "untargeted")), 0.2)
    assert swept.robust[0.2][1].estimate == 0.0


def test_first_images_and_picks_keep_boxes_with_their_images() -> None:
    rng = np.random.default_rng(1)
    objects = random_objects(rng, 10, 3)
    one, two = (random_detections(rng, objects, 3) for _ in range(2))
    few = one.first(4)
    assert vars(few).keys() == vars(one).keys()
    for name, value in repeated(one, np.arange(4)).items():
        np.testing.assert_array_equal(getattr(few, name), value)
    chosen = np.array([0, 1] * 5)
    picked = pick_images([one, two], chosen)
    for image, attack in enumerate(chosen):
        source = (one, two)[attack]
        np.testing.assert_array_equal(picked.boxes[picked.rows(image)], source.boxes[source.rows(image)])
        np.testing.assert_array_equal(picked.scores[picked.rows(image)], source.scores[source.rows(image)])
