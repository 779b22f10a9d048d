"""mAP against pycocotools' own summary, closed forms and bootstrap samples that are evaluated anew."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.errors import UsageError
from audit.metrics.average_precision import (
    average_precision,
    image_quality,
    paired_difference_of_map,
    precision_by_class,
    resampled_counts,
    resampled_precision,
)
from audit.metrics.box_matching import _dataset, match_boxes
from audit.metrics.relative_precision import relative_precision
from tests.random_detections import random_detections, random_objects, repeated, the_truth

pytest.importorskip("pycocotools")
CLASSES = 4


def reference(objects: PackedObjects, detections: PackedDetections, classes: int = CLASSES) -> np.ndarray:
    """The twelve numbers of pycocotools' `summarize`, by its own accumulation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = _dataset(objects, classes, crowd=objects.crowd, area=objects.areas)
        found.dataset = _dataset(detections, classes, score=detections.scores)
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_reference_with_ties_crowds_and_empty_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects = random_objects(rng, 30, CLASSES)
    detections = random_detections(rng, objects, CLASSES)
    stats = reference(objects, detections)
    ours = average_precision(match_boxes(objects, detections, CLASSES), resamples=2)
    assert ours is not None
    sizes = [ours.by_size[name] for name in ("small", "medium", "large")]
    mine = [ours.mean.estimate, ours.at_50.estimate, ours.at_75.estimate, *(s.estimate if s else -1 for s in sizes)]
    assert mine == pytest.approx(stats[:6], abs=1e-9)
    assert ours.recall == pytest.approx(stats[8], abs=1e-9)
    assert 0.1 < ours.mean.estimate < 0.9


def test_the_truth_scores_one_and_shuffled_images_near_nothing() -> None:
    rng = np.random.default_rng(1)
    objects = random_objects(rng, 60, CLASSES)
    truth = the_truth(objects)
    perfect = average_precision(match_boxes(objects, truth, CLASSES), resamples=100)
    assert perfect is not None
    assert (perfect.mean.low, perfect.mean.estimate, perfect.mean.high) == (1.0, 1.0, 1.0)
    shuffled = PackedDetections(**repeated(truth, np.roll(np.arange(60), 1)))
    chance = average_precision(match_boxes(objects, shuffled, CLASSES), resamples=2)
    assert chance is not None
    assert chance.mean.estimate < 0.05


def test_a_counted_image_equals_a_repeated_one() -> None:
    rng = np.random.default_rng(3)
    objects = random_objects(rng, 12, CLASSES)
    tied = random_detections(rng, objects, CLASSES)
    place = np.concatenate(
        [np.arange(n) for n in tied.counts]
    )  # one image's scores differ, those of two images may not
    detections = replace(tied, scores=((100 - place) / 100).astype(np.float32))
    drawn = resampled_counts(12, seed=5, resamples=8)
    fast = precision_by_class(match_boxes(objects, detections, CLASSES).by_size["all"], drawn)
    for counts, row in zip(drawn, fast, strict=True):
        images = np.repeat(np.arange(12), counts.astype(int))
        again = match_boxes(
            PackedObjects(**repeated(objects, images)), PackedDetections(**repeated(detections, images)), CLASSES
        )
        slow = precision_by_class(again.by_size["all"], np.ones((1, 12)))[0]
        np.testing.assert_allclose(row, slow, atol=1e-12)


def test_the_interval_covers_the_truth_of_a_large_population() -> None:
    rng = np.random.default_rng(0)
    objects = random_objects(rng, 1500, 2)
    detections = random_detections(rng, objects, 2)
    matches = match_boxes(objects, detections, 2, sizes=("all",))
    whole = average_precision(matches, resamples=2)
    assert whole is not None
    covered = 0
    for start in range(0, 1500, 50):
        images = np.arange(start, start + 50)
        part = match_boxes(
            PackedObjects(**repeated(objects, images)),
            PackedDetections(**repeated(detections, images)),
            2,
            sizes=("all",),
        )
        interval = average_precision(part, resamples=200)
        assert interval is not None
        covered += interval.mean.low <= whole.mean.estimate <= interval.mean.high
    assert covered >= 24  # of 30; fewer than 25 has a probability of 1% at a true coverage of 95%


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(2)
    objects = random_objects(rng, 80, CLASSES)
    detections = random_detections(rng, objects, CLASSES)
    worse = PackedDetections(detections.counts, detections.boxes + 3, detections.labels, detections.scores)
    first, second = (match_boxes(objects, found, CLASSES) for found in (detections, worse))
    difference = paired_difference_of_map(first, second, resamples=200)
    one, two = average_precision(first, resamples=200), average_precision(second, resamples=200)
    assert difference is not None and one is not None and two is not None
    assert difference.estimate == pytest.approx(one.mean.estimate - two.mean.estimate)
    assert difference.low > 0
    assert difference.high - difference.low < (one.mean.high - one.mean.low) + (two.mean.high - two.mean.low)


def test_the_quality_of_an_image_is_its_own_map() -> None:
    rng = np.random.default_rng(4)
    objects = random_objects(rng, 12, CLASSES)
    detections = random_detections(rng, objects, CLASSES)
    quality = image_quality(match_boxes(objects, detections, CLASSES, sizes=("all",)), detections)
    for image in range(12):
        alone = np.array([image])
        there, found = PackedObjects(**repeated(objects, alone)), PackedDetections(**repeated(detections, alone))
        own = average_precision(match_boxes(there, found, CLASSES, sizes=("all",)), resamples=2)
        expected = 1 - max([0.0, *found.scores.tolist()]) if own is None else own.mean.estimate
        assert quality[image] == pytest.approx(expected)


def test_no_object_has_no_precision() -> None:
    rng = np.random.default_rng(2)
    empty = PackedObjects(**repeated(random_objects(rng, 5, CLASSES), np.zeros(0, int)))
    objects = PackedObjects(np.zeros(3, np.int64), empty.boxes, empty.labels, empty.areas, empty.crowd)
    detections = PackedDetections(
        np.array([1, 0, 0]), np.ones((1, 4), np.float32), np.zeros(1, np.int64), np.ones(1, np.float32)
    )
    assert average_precision(match_boxes(objects, detections, CLASSES)) is None
    nothing = PackedDetections(
        np.zeros(3, np.int64), detections.boxes[:0], detections.labels[:0], detections.scores[:0]
    )
    assert average_precision(match_boxes(objects, nothing, CLASSES)) is None


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(2)
    objects = random_objects(rng, 20, CLASSES)
    with pytest.raises(UsageError, match="Objects of 20 images and detections in 4"):
        match_boxes(objects, PackedDetections(**repeated(the_truth(objects), np.arange(4))), CLASSES)
    with pytest.raises(UsageError, match="the classes are 0 to 1"):
        match_boxes(objects, the_truth(objects), 2)


def test_precision_under_changes_is_the_mean_of_theirs_with_an_interval_of_its_own() -> None:
    rng = np.random.default_rng(3)
    objects = random_objects(rng, 40, CLASSES)
    clean = match_boxes(objects, the_truth(objects), CLASSES)
    changed = [match_boxes(objects, random_detections(rng, objects, CLASSES), CLASSES) for _ in range(3)]
    left = relative_precision(clean, changed)
    each = [average_precision(matches, resamples=2) for matches in changed]
    assert left is not None
    expected = np.mean([some.mean.estimate for some in each if some is not None])
    assert left.mean.estimate == pytest.approx(expected) and left.mean.n == 40
    assert (left.share.low, left.share.high) == pytest.approx((left.mean.low, left.mean.high), abs=0.02)  # clean: 1
    samples = np.mean([resampled_precision(matches, resampled_counts(40, 0, 200)) for matches in changed], axis=0)
    low, high = np.quantile(samples, [0.025, 0.975])
    assert (left.mean.low, left.mean.high) == pytest.approx((2 * expected - high, 2 * expected - low), abs=0.01)
