"""Images unlike all others, in brightness, contrast, colour and sharpness or in what they show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.data.health.signature import Signatures

LIMIT = 4.8
"""Robust standard deviations beyond the median: the farthest of Fashion-MNIST's 70,000 images is at 4.6, black and
white noise among them at 5.0."""
_TIMES = 1.5
"""The median distance is exceeded so many times, too: where all distances are alike, a little more is not unusual."""
_LEAST = 50
_AT_ONCE = 4096


def unusual(signatures: Signatures) -> NDArray[np.float64]:
    """How unusual each image is: the logarithm of its Mahalanobis distance, in robust standard deviations.

    The distance is from the mean of all images that are not blank, over the statistics and the embedding. Median and
    median absolute deviation scale it (Iglewicz and Hoaglin 1993, "How to detect and handle outliers"), so that the
    unusual ones do not hide one another.

    Args:
        signatures: Of the images, (N,).

    Returns:
        Float64 (N,); 0 for blank images, and for all of fewer than 50.
    """
    result = np.zeros(len(signatures))
    rows = np.flatnonzero(~signatures.blank)
    if len(rows) < _LEAST:
        return result
    scales = [
        (np.median(column), max(float(column.std()), 1e-6))
        for table in (signatures.statistics, signatures.embedding)
        for column in (table[rows, k].astype(np.float64) for k in range(table.shape[1]))
    ]
    medians, spreads = np.array(scales).T

    def centred(part: NDArray[np.int64]) -> NDArray[np.float64]:
        features = np.concatenate([signatures.statistics[part], signatures.embedding[part]], axis=1)
        return np.asarray((features - medians) / spreads, np.float64)

    parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
    covariance = np.sum([centred(part).T @ centred(part) for part in parts], axis=0) / len(rows)
    ridge = 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance + ridge)
    squared = np.concatenate([np.einsum("ij,ij->i", centred(part) @ inverse, centred(part)) for part in parts])
    distance = np.log(np.maximum(squared, 1e-12)) / 2
    middle = np.median(distance)
    spread = 1.4826 * np.median(np.abs(distance - middle))
    scaled = (distance - middle) / max(float(spread), 1e-9)
    result[rows] = np.where(distance - middle > np.log(_TIMES), scaled, np.minimum(scaled, LIMIT))
    return result
