"""Arithmetic of boxes: how much two overlap, and the suppression of those that show the same object."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.objects import Candidates, Detections, Objects


def generalised_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """How much boxes overlap, pair by pair.

    Args:
        first: Float (..., 4), x1, y1, x2, y2.
        second: Float (..., 4).

    Returns:
        The intersection over union, and one minus the generalised one (Rezatofighi et al. 2019, arXiv:1902.09630), a
        loss that has a slope for boxes apart, too; (...) each.
    """
    inner = (first[..., 2:].minimum(second[..., 2:]) - first[..., :2].maximum(second[..., :2])).clamp(min=0).prod(-1)
    outer = (first[..., 2:].maximum(second[..., 2:]) - first[..., :2].minimum(second[..., :2])).prod(-1)
    union = _area(first) + _area(second) - inner
    overlap = inner / union.clamp(min=1e-6)
    return overlap, 1 - overlap + (outer - union) / outer.clamp(min=1e-6)


def suppressed(candidates: Candidates, *, least_score: float, overlap: float, most: int) -> Detections:
    """What is left of candidates after suppression within each class.

    Args:
        candidates: The boxes of one image.
        least_score: The least score of a detection, in [0, 1].
        overlap: Two boxes of a class whose IoU is above it, in [0, 1], show the same object.
        most: The most detections.

    Returns:
        Detections by falling score.
    """
    from torchvision.ops import batched_nms  # torchvision takes seconds to import

    rows, labels = (candidates.scores >= least_score).nonzero(as_tuple=True)
    boxes, scores = candidates.boxes[rows], candidates.scores[rows, labels]
    kept = batched_nms(boxes, scores, labels, overlap)[:most]
    return Detections(boxes[kept], labels[kept], scores[kept])


def no_objects(device: torch.device) -> Objects:
    """Nothing to be found.

    Args:
        device: Where the tensors are to be.
    """
    return Objects(
        torch.zeros(0, 4, device=device),
        torch.zeros(0, dtype=torch.int64, device=device),
        torch.zeros(0, device=device),
        torch.zeros(0, dtype=torch.bool, device=device),
    )


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
