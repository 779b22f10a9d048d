"""Mean average precision as COCO defines it, with bootstrap intervals over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.boxes import PackedDetections
from audit.core.statistics import LEVEL, Interval
from audit.metrics.box_matching import OVERLAPS, BoxMatches, ClassMatches

RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads the precision."""
RESAMPLED = 1000
"""Bootstrap samples of an interval of mAP."""
_CELLS = 1 << 24
"""Values of a table of cumulative sums held at a time: it bounds memory and changes no answer."""
_50, _75 = 0, 5


@dataclass(frozen=True)
class AveragePrecision:
    """mAP with 95% intervals over images; all in [0, 1].

    Attributes:
        mean: The mean over overlaps .50 to .95 and over the classes that have objects.
        at_50: At overlap .50.
        at_75: At overlap .75.
        by_size: By "small", "medium" and "large", the mean over overlaps; None where no object is of that size.
        by_class: The mean over overlaps of each class, float64 (classes,); NaN for a class without objects.
        recall: The share of objects found by the first 100 detections a class and image, averaged over overlaps and
            classes (COCO's AR at 100 detections).
    """

    mean: Interval
    at_50: Interval
    at_75: Interval
    by_size: dict[str, Interval | None]
    by_class: NDArray[np.float64]
    recall: float


def average_precision(matches: BoxMatches, *, seed: int = 0, resamples: int = RESAMPLED) -> AveragePrecision | None:
    """COCO's mAP: by class and overlap, the mean over 101 recalls r of the largest precision at a recall of at least r.

    Lin et al. 2014, arXiv:1405.0312, as in `COCOeval.accumulate` and `summarize`. The interval is the basic (reflected)
    bootstrap over images: mAP of few images lies above that of many, by about a standard deviation at 50 images, and
    resampling adds as much again. Of intervals from 100 samples of 50 images each, the percentiles held mAP of all
    1,500 in 76, the reflected ones in 92 (`tests/metrics/test_average_precision.py` holds them to it).

    Args:
        matches: Of N images, with the size "all".
        seed: Of the resampling.
        resamples: Bootstrap samples.

    Returns:
        None where no image has an object.
    """
    once = np.ones((1, matches.images))
    whole = precision_by_class(matches.by_size["all"], once)[0]
    if np.isnan(whole).all():
        return None
    drawn = resampled_counts(matches.images, seed, resamples)
    samples = precision_by_class(matches.by_size["all"], drawn)
    sizes: dict[str, Interval | None] = {}
    for name, classes in matches.by_size.items():
        if name == "all":
            continue
        part = precision_by_class(classes, once)[0]
        values = precision_by_class(classes, drawn).mean(-1)
        sizes[name] = (
            None if np.isnan(part).all() else basic_bootstrap(_over(part.mean(-1)), _over(values), matches.images)
        )
    return AveragePrecision(
        mean=basic_bootstrap(_over(whole.mean(-1)), _over(samples.mean(-1)), matches.images),
        at_50=basic_bootstrap(_over(whole[:, _50]), _over(samples[..., _50]), matches.images),
        at_75=basic_bootstrap(_over(whole[:, _75]), _over(samples[..., _75]), matches.images),
        by_size=sizes,
        by_class=whole.mean(-1),
        recall=float(_over(_recall(matches.by_size["all"]))),
    )


def paired_difference_of_map(
    first: BoxMatches, second: BoxMatches, *, seed: int = 0, resamples: int = RESAMPLED
) -> Interval | None:
    """mAP of the first less that of the second, on the same images, which are drawn together.

    Args:
        first: Matches in N images.
        second: Matches in the same images.
        seed: Of the resampling.
        resamples: Bootstrap samples.

    Returns:
        None where no image has an object.
    """
    drawn = resampled_counts(first.images, seed, resamples)
    a, b = (mean_precision(matches) for matches in (first, second))
    if np.isnan(a) or np.isnan(b):
        return None
    one, two = (resampled_precision(matches, drawn) for matches in (first, second))
    return basic_bootstrap(np.asarray(a - b), np.asarray(one - two), first.images, least=-1.0)


def mean_precision(matches: BoxMatches) -> float:
    """mAP over overlaps .50 to .95, in [0, 1], without its interval; NaN where no image has an object.

    Args:
        matches: Of N images, with the size "all".
    """
    return float(resampled_precision(matches, np.ones((1, matches.images)))[0])


def resampled_precision(matches: BoxMatches, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """mAP over overlaps .50 to .95 when image i is there `drawn[b, i]` times, (B,); NaN where no class has an object.

    Args:
        matches: Of N images, with the size "all".
        drawn: Whole numbers (B, N).
    """
    return _over(precision_by_class(matches.by_size["all"], drawn).mean(-1))


def image_quality(matches: BoxMatches, detections: PackedDetections) -> NDArray[np.float64]:
    """How well each image by itself is done, float64 (N,): its mAP; 1 less its highest score where it has no object.

    Args:
        matches: Of N images, with the size "all".
        detections: What was found in them.
    """
    highest = np.zeros(matches.images)
    np.maximum.at(highest, np.repeat(np.arange(matches.images), detections.counts), detections.scores)
    quality = resampled_precision(matches, np.eye(matches.images))
    return np.where(np.isnan(quality), 1 - highest, quality)


def resampled_counts(images: int, seed: int, resamples: int) -> NDArray[np.float64]:
    """How often each image is drawn in each bootstrap sample, (resamples, images).

    Args:
        images: How many there are.
        seed: Of the drawing.
        resamples: How many samples.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def precision_by_class(classes: tuple[ClassMatches, ...], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision of each class at each overlap, when image i is there `drawn[b, i]` times.

    Counting an image w times equals evaluating w copies of it side by side, as within a run of one detection the
    precision at its end is what counts; but for equal scores of a right and a wrong detection of one image, whose order
    COCO leaves to chance.

    Args:
        classes: The matches of each class.
        drawn: Whole numbers (B, N).

    Returns:
        Float64 (B, classes, 10); NaN where the class has no object.
    """
    result = np.full((len(drawn), len(classes), len(OVERLAPS)), np.nan)
    for k, matches in enumerate(classes):
        stride = max(1, _CELLS // max(1, matches.right.shape[1]))
        for start in range(0, len(drawn), stride):
            rows = slice(start, start + stride)
            result[rows, k] = _class_precision(matches, drawn[rows])
    return result


def _class_precision(matches: ClassMatches, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of one class, (B, 10): the precision is read where a right detection stands, for it is highest there."""
    objects = drawn @ matches.objects
    precision = np.zeros((len(drawn), len(OVERLAPS)))
    for t, (right, wrong) in enumerate(zip(matches.right, matches.wrong, strict=True)):
        places = np.flatnonzero(right)
        hits, misses = (drawn @ _counts_up_to(places, flags, matches) for flags in (right, wrong))
        ratio = hits / (misses + hits + np.spacing(1))
        envelope = np.maximum.accumulate(ratio[:, ::-1], axis=1)[:, ::-1]
        recall = hits / np.maximum(objects, 1)[:, None]
        reached = np.searchsorted(RECALLS, recall, side="right")
        first_reached = np.diff(reached, axis=1, prepend=0)  # how many of the recalls each is the first to reach
        precision[:, t] = (envelope * first_reached).sum(1) / len(RECALLS)
    precision[objects == 0] = np.nan
    return precision


def _counts_up_to(places: NDArray[np.int64], flags: NDArray[np.bool_], matches: ClassMatches) -> NDArray[np.float64]:
    """How many flagged detections of each image stand at or before each place, (N, places)."""
    rows = np.flatnonzero(flags)
    counts = np.zeros((len(matches.objects), len(places) + 1))
    np.add.at(counts, (matches.image[rows], np.searchsorted(places, rows)), 1)
    return np.cumsum(counts[:, :-1], axis=1)


def _recall(classes: tuple[ClassMatches, ...]) -> NDArray[np.float64]:
    """The recall of each class, averaged over overlaps; NaN where it has no object."""
    found = np.array([matches.right.sum(axis=1).mean() for matches in classes])
    objects = np.array([matches.objects.sum() for matches in classes], np.float64)
    share: NDArray[np.float64] = np.where(objects > 0, found / np.maximum(objects, 1), np.nan)
    return share


def _over(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the classes that have a value, along the last axis; NaN where none has."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(-1), known.sum(-1)
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def ratio_over_images(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    *,
    most: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLED,
) -> Interval | None:
    """The sum of one count over images by that of another, with the basic bootstrap interval of mAP.

    Args:
        numerators: A count of each image, (N,).
        denominators: The other, (N,).
        most: What the ratio cannot exceed.
        seed: Of the resampling.
        resamples: Bootstrap samples.

    Returns:
        None where the second count is 0 in every image.
    """
    if not denominators.sum():
        return None
    drawn = resampled_counts(len(numerators), seed, resamples)
    above, below = drawn @ numerators, drawn @ denominators
    samples = np.divide(above, below, out=np.full(resamples, np.nan), where=below > 0)
    return basic_bootstrap(np.asarray(numerators.sum() / denominators.sum()), samples, len(numerators), most=most)


def basic_bootstrap(
    estimate: NDArray[np.float64],
    samples: NDArray[np.float64],
    images: int,
    *,
    least: float = 0.0,
    most: float = 1.0,
) -> Interval:
    """The basic (reflected) bootstrap interval: as far on the other side of the estimate as the samples' quantiles lie.

    Args:
        estimate: Of all images, ().
        samples: Of each bootstrap sample, (B,); NaN where it has none.
        images: How many there are.
        least: What the quantity cannot fall below.
        most: What it cannot exceed.
    """
    tail = (1 - LEVEL) / 2
    lower, upper = np.nanquantile(samples, [tail, 1 - tail])
    value = float(estimate)
    low, high = (float(np.clip(2 * value - bound, least, most)) for bound in (upper, lower))
    return Interval(value, min(low, value), max(high, value), images, f"basic bootstrap over images {LEVEL:.0%}")
