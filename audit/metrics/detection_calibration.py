"""Whether a detector's scores are what they say: confidence against the share of detections that are right."""

from __future__ import annotations

import numpy as np

from audit.core.boxes import PackedDetections
from audit.core.statistics import LEVEL, Interval
from audit.metrics.average_precision import RESAMPLED, resampled_counts
from audit.metrics.classification import BINS, Reliability, bin_of_confidence, reliability_of
from audit.metrics.detection_errors import OUTCOMES, DetectionErrors

_RIGHT, _CROWD = OUTCOMES.index("right"), OUTCOMES.index("crowd")


def detection_calibration(
    errors: DetectionErrors, detections: PackedDetections, *, seed: int = 0, resamples: int = RESAMPLED
) -> tuple[Reliability, Interval] | None:
    """The reliability of scores and the detection calibration error (D-ECE), with an interval over images.

    D-ECE = sum over bins m of |I(m)| / |D| * |precision(m) - confidence(m)|, Kueppers et al. 2020, arXiv:2004.13546,
    equation 5 with the score alone. The interval is the basic bootstrap over images, as resampling inflates the error.

    Args:
        errors: What became of each detection.
        detections: The detections of N images.
        seed: Of the resampling.
        resamples: Bootstrap samples.

    Returns:
        None where no detection counts.
    """
    counted = (errors.outcomes >= 0) & (errors.outcomes != _CROWD)
    if not counted.any():
        return None
    confidence = detections.scores[counted].astype(np.float64)
    right = (errors.outcomes[counted] == _RIGHT).astype(np.float64)
    table = reliability_of(confidence, right)
    images = len(detections.counts)
    image = np.repeat(np.arange(images), detections.counts)[counted]
    bins = bin_of_confidence(confidence, BINS)
    gaps, sizes = np.zeros((images, BINS)), np.bincount(image, minlength=images).astype(np.float64)
    np.add.at(gaps, (image, bins), confidence - right)
    drawn = resampled_counts(images, seed, resamples)
    total = drawn @ sizes
    samples = (np.abs(drawn @ gaps).sum(1) / np.maximum(total, 1))[total > 0]
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(samples, [tail, 1 - tail])
    error = table.error
    low, high = (float(np.clip(2 * error - bound, 0, 1)) for bound in (upper, lower))
    name = f"basic bootstrap over images {LEVEL:.0%}"
    return table, Interval(error, min(low, error), max(high, error), images, name)
