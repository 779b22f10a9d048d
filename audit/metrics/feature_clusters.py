"""Groups of images that a model finds alike: k-means on its features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array

_ROUNDS = 30
_DIMENSIONS = 32


def feature_clusters(features: Array, count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """The cluster of each image, by Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007).

    The features are standardised and reduced to their first 32 principal components before that.

    Args:
        features: Float (N, D).
        count: Number of clusters, at least 1.
        seed: Of the first centres.

    Returns:
        Cluster of each image, int64 (N,), 0 to count - 1; some of them may be empty.
    """
    points = _principal(np.asarray(features, np.float64))
    draw = np.random.default_rng(seed)
    centres = _first_centres(points, min(count, len(points)), draw)
    assigned = _nearest(points, centres)
    for _ in range(_ROUNDS):
        sums = np.zeros_like(centres)
        np.add.at(sums, assigned, points)
        sizes = np.bincount(assigned, minlength=len(centres))[:, None]
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
        moved = _nearest(points, centres)
        if (moved == assigned).all():
            break
        assigned = moved
    return assigned


def _principal(features: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = features - features.mean(0)
    spread = centred.std(0)
    centred = centred[:, spread > 0] / spread[spread > 0]
    if centred.shape[1] <= _DIMENSIONS:
        return np.asarray(centred, np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, ::-1][:, :_DIMENSIONS], np.float64)


def _first_centres(points: NDArray[np.float64], count: int, draw: np.random.Generator) -> NDArray[np.float64]:
    centres = [points[draw.integers(len(points))]]
    distance = ((points - centres[0]) ** 2).sum(1)
    while len(centres) < count:
        total = distance.sum()
        position = draw.choice(len(points), p=distance / total) if total > 0 else draw.integers(len(points))
        centres.append(points[position])
        distance = np.minimum(distance, ((points - centres[-1]) ** 2).sum(1))
    return np.stack(centres)


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    squared = (centres**2).sum(1) - 2 * points @ centres.T
    return np.asarray(squared.argmin(1), np.int64)
