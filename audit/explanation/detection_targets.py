"""What an attribution of a detector explains: one found box, and how much of it is still found in a changed image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audit.core.objects import Candidates, Detections
from audit.core.types import Images
from audit.models.detectors.boxes import generalised_iou
from audit.models.detectors.under_test import BoxObjective, DetectorUnderTest

_LEAST = 1e-6
"""Scores are kept this far from 0 and 1 before their log-odds are taken."""


def still_found(targets: Detections, found: Sequence[Detections]) -> Tensor:
    """How much of each target is found in each of M changed images: max_j IoU(t, j) [class of j = class of t] score_j.

    D-RISE's similarity (Petsiuk et al. 2021, arXiv:2006.03204, equations 3 to 6) where detections have one class each,
    so that the cosine of class vectors is 1 or 0.

    Args:
        targets: T boxes, each explained by itself.
        found: What is found in each changed image.

    Returns:
        Float32 (T, M) in [0, 1].
    """
    counts = torch.tensor([len(some) for some in found], device=targets.boxes.device)
    boxes, labels, scores = (
        torch.cat([getattr(some, name) for some in found]) for name in ("boxes", "labels", "scores")
    )
    image = torch.repeat_interleave(torch.arange(len(found), device=counts.device), counts)
    overlap, _ = generalised_iou(targets.boxes[:, None], boxes[None])
    alike = overlap * (targets.labels[:, None] == labels) * scores
    most = torch.zeros(len(targets), len(found), device=counts.device)
    return most.scatter_reduce_(1, image.expand_as(alike), alike, "amax")


def similarity_under(
    detector: DetectorUnderTest, targets: Detections, count: int, compose: Callable[[slice], Images]
) -> Tensor:
    """`still_found` in images that are composed batch by batch, never all in memory.

    Args:
        detector: The detector.
        targets: T boxes.
        count: How many changed images there are, M.
        compose: Makes the images of one part.

    Returns:
        Float32 (T, M) in [0, 1].
    """
    stride = detector.layout.batch_size
    parts = [
        still_found(targets, detector.detect(compose(slice(start, min(start + stride, count)))))
        for start in range(0, count, stride)
    ]
    return torch.cat(parts, 1) if parts else targets.scores.new_zeros(len(targets), 0)


def log_odds_of(targets: Sequence[Detections]) -> BoxObjective:
    """The log-odds of each target's class, of the candidate that overlaps and scores most: what gradients explain.

    Args:
        targets: One box for each image, that is a `Detections` of length 1.

    Returns:
        An objective for `DetectorUnderTest.candidate_gradient`.
    """

    def objective(candidates: list[Candidates], rows: slice) -> Tensor:
        return torch.stack([_log_odds(some, one) for some, one in zip(candidates, targets[rows], strict=True)])

    return objective


def _log_odds(candidates: Candidates, target: Detections) -> Tensor:
    scores = candidates.scores[:, int(target.labels[0])]
    overlap, _ = generalised_iou(candidates.boxes.detach(), target.boxes.to(candidates.boxes))
    best = (overlap * scores.detach()).argmax()
    return torch.logit(scores[best], eps=_LEAST)
