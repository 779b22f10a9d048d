"""Whether two sets of images can be told apart: a classifier two-sample test with a permutation p-value.

Lopez-Paz and Oquab 2017, arXiv:1610.06545, with the area under the ROC curve as the statistic. The classifier is a
ridge regression, whose predictions are linear in the memberships: the leave-one-out scores of every permutation come
from one hat matrix h, (fitted - h_ii y_i) / (1 - h_ii), so that no permutation is fitted anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from audit.core.statistics import Interval, mean_ranks
from audit.data.health.signature import Signatures

SAMPLED = 1000
"""Images of either set that are compared."""
_PERMUTATIONS = 499
_RIDGE = 0.01


@dataclass(frozen=True)
class TwoSamples:
    """Whether two sets can be told apart.

    Attributes:
        auc: Area under the ROC curve of held-out scores, 0.5 where they cannot, with its 95% interval by Hanley and
            McNeil (1982); n is the number of images compared.
        p_value: Share of permutations of the memberships with an AUC as large, in (0, 1].
    """

    auc: Interval
    p_value: float


def compare(first: Signatures, second: Signatures, seed: int) -> TwoSamples | None:
    """Compare images by their signatures: brightness, contrast, colour and sharpness, and what they show.

    Args:
        first: One set, such as the training images.
        second: The other.
        seed: Root of the draw of images and permutations.

    Returns:
        The comparison; None with fewer than 20 images in either set.
    """
    if min(len(first), len(second)) < 20:
        return None
    draw = np.random.default_rng(seed)
    rows = [draw.permutation(len(part))[:SAMPLED] for part in (first, second)]
    features = np.concatenate([_features(part, index) for part, index in zip((first, second), rows, strict=True)])
    member = np.repeat([0.0, 1.0], [len(index) for index in rows])
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    memberships = np.stack([member, *(draw.permutation(member) for _ in range(_PERMUTATIONS))], axis=1)
    scores = _leave_one_out(features, memberships)
    areas = np.array([_area(scores[:, k], memberships[:, k]) for k in range(memberships.shape[1])])
    p_value = float((areas >= areas[0]).sum() / len(areas))
    return TwoSamples(_interval(float(areas[0]), len(rows[0]), len(rows[1])), p_value)


def _features(part: Signatures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    statistics = part.statistics[rows].astype(np.float64)
    shown = part.embedding[rows].astype(np.float64)
    return np.concatenate([statistics, statistics**2, shown, shown**2], axis=1)


def _leave_one_out(features: NDArray[np.float64], memberships: NDArray[np.float64]) -> NDArray[np.float64]:
    count = len(features)
    left, values, _ = np.linalg.svd(np.concatenate([np.ones((count, 1)), features], axis=1), full_matrices=False)
    kept = left * np.sqrt(values**2 / (values**2 + _RIDGE * count))
    leverage = np.minimum(np.einsum("ij,ij->i", kept, kept), 1 - 1e-6)[:, None]
    fitted = kept @ (kept.T @ memberships)
    return np.asarray((fitted - leverage * memberships) / (1 - leverage))


def _area(scores: NDArray[np.float64], member: NDArray[np.float64]) -> float:
    ranks, inside = mean_ranks(scores), member > 0.5
    positive, negative = int(inside.sum()), int((~inside).sum())
    return float((ranks[inside].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _interval(area: float, first: int, second: int) -> Interval:
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (second - 1) * (one - area**2) + (first - 1) * (two - area**2)
    margin = float(ndtri(0.975)) * math.sqrt(max(spread, 0) / (first * second))
    return Interval(area, max(0.0, area - margin), min(1.0, area + margin), first + second, "Hanley-McNeil 95%")
