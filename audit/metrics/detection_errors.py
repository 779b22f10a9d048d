"""What is wrong with a detection, and which objects were missed: the kinds of error of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audit.core.boxes import Boxes, PackedDetections, PackedObjects

DetectionOutcome = Literal["right", "badly_placed", "wrong_class", "both", "duplicate", "false", "crowd"]
OUTCOMES: tuple[DetectionOutcome, ...] = get_args(DetectionOutcome)
FOUND, BACKGROUND = 0.5, 0.1
"""Overlaps (intersection over union): from the first a box is on an object, below the second on none."""


@dataclass(frozen=True)
class DetectionErrors:
    """What became of the detections above a score and of the objects.

    Attributes:
        outcomes: Of each detection, position in `OUTCOMES`, int64 (T,); -1 for one below the score.
        found: Whether each object was found, bool (O,); crowds count as found.
        missed: Whether each object was not found and no detection was on it with a wrong class, or near it with the
            right one, bool (O,).
        partner: Of each detection, the object it is on or near, int64 (T,), a position among all objects; -1 for none.
    """

    outcomes: NDArray[np.int64]
    found: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    partner: NDArray[np.int64]

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each outcome occurs, and how many objects were missed."""
        counted = np.bincount(self.outcomes[self.outcomes >= 0], minlength=len(OUTCOMES)).tolist()
        return {**dict(zip(OUTCOMES, counted, strict=True)), "missed": int(self.missed.sum())}


def detection_errors(objects: PackedObjects, detections: PackedDetections, score: float) -> DetectionErrors:
    """Sort detections and missed objects into kinds of error.

    The kinds are those of TIDE (Bolya et al. 2020, arXiv:2008.08115, section 2.2), with overlap .5 to be on an object
    and .1 to be near it. A detection is *right* where it takes, by falling score, a free object of its class that it is
    on; *duplicate* where that object is taken; *wrong_class* where it is on an object of another class; *badly_placed*
    where it is near an object of its class, *both* where it is near one of another class; else *false*. One that lies
    on a crowd of its class is no error. An object is *missed* where no error covers it.

    Args:
        objects: The true objects of N images.
        detections: What was found there.
        score: Detections below it are left out; in [0, 1].
    """
    outcomes = np.full(len(detections.labels), -1, np.int64)
    partner = np.full(len(detections.labels), -1, np.int64)
    found, covered = objects.crowd.copy(), np.zeros(len(objects.labels), np.bool_)
    for image in range(len(objects.counts)):
        there, rows = objects.rows(image), detections.rows(image)
        index = np.arange(rows.start, rows.stop)
        index = index[detections.scores[index] >= score]
        index = index[np.argsort(-detections.scores[index], kind="stable")]
        truth = np.arange(there.start, there.stop)
        single = truth[~objects.crowd[truth]]
        crowds = truth[objects.crowd[truth]]
        overlap = iou(detections.boxes[index], objects.boxes[single])
        within = _share_inside(detections.boxes[index], objects.boxes[crowds])
        for d, overlaps, inside in zip(index, overlap, within, strict=True):
            same = objects.labels[single] == detections.labels[d]
            outcome, at = _outcome(overlaps, same, found[single])
            if (
                outcome not in ("right", "duplicate")
                and (inside[objects.labels[crowds] == detections.labels[d]] >= FOUND).any()
            ):
                outcome, at = "crowd", -1
            outcomes[d] = OUTCOMES.index(outcome)
            if at >= 0:
                partner[d] = single[at]
                found[single[at]] |= outcome == "right"
                covered[single[at]] |= outcome in ("wrong_class", "badly_placed")
    return DetectionErrors(outcomes, found, ~found & ~covered, partner)


def iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union of each pair of boxes, float64 (A, B); 0 where both are empty.

    Args:
        first: (A, 4).
        second: (B, 4).
    """
    shared, one, two = _intersections(first, second)
    union = one[:, None] + two[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _outcome(
    overlaps: NDArray[np.float64], same: NDArray[np.bool_], taken: NDArray[np.bool_]
) -> tuple[DetectionOutcome, int]:
    """The kind of one detection, and the object it is about."""
    rules: tuple[tuple[DetectionOutcome, NDArray[np.bool_], float], ...] = (
        ("right", same & ~taken, FOUND),
        ("duplicate", same, FOUND),
        ("wrong_class", ~same, FOUND),
        ("badly_placed", same, BACKGROUND),
        ("both", ~same, BACKGROUND),
    )
    for outcome, allowed, least in rules:
        candidates = np.where(allowed, overlaps, -1.0)
        if candidates.size and candidates.max() >= least:
            return outcome, int(candidates.argmax())
    return "false", -1


def _share_inside(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """The share of each first box that lies in each second one, (A, B)."""
    shared, one, _ = _intersections(first, second)
    return np.divide(shared, one[:, None], out=np.zeros_like(shared), where=one[:, None] > 0)


def _intersections(first: Boxes, second: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1), (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
