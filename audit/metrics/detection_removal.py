"""Deletion and insertion for detectors: how much of a box is still found as pixels go, or come back."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.objects import Detections
from audit.core.types import Images
from audit.explanation.detection_targets import similarity_under
from audit.metrics.deletion_insertion import RemovalMode
from audit.models.detectors.under_test import DetectorUnderTest


def box_removal_curves(
    detector: DetectorUnderTest,
    image: Images,
    targets: Detections,
    orders: Tensor,
    *,
    fill: Images,
    mode: RemovalMode,
    steps: int = 16,
) -> Tensor:
    """How much of each box is found after equal shares of the pixels were changed, float32 (K, T, steps + 1).

    The two ends are the same for all orders and forwarded once. Similarity is that of
    `audit.explanation.detection_targets.still_found`.

    Args:
        detector: The detector.
        image: Float32 (1, C, H, W) in [0, 1].
        targets: T boxes.
        orders: Pixels from first to last, int64 (K, H x W).
        fill: What stands in place of removed pixels, float32 (1, C, H, W).
        mode: `deletion` goes from the image to the fill, `insertion` from the fill to the image.
        steps: Equal shares of the pixels.
    """
    start, end = (image, fill) if mode == "deletion" else (fill, image)
    pixels = orders.shape[1]
    bounds = torch.linspace(0, pixels, steps + 1, dtype=torch.float64, device="cpu").round().long().tolist()
    rank = orders.argsort(1)  # of each pixel in each order
    inner = steps - 1

    def compose(rows: slice) -> Images:
        changed = []
        for row in range(rows.start, rows.stop):
            order, step = divmod(row, inner)
            mask = (rank[order] < bounds[step + 1]).view(1, 1, *image.shape[2:])
            changed.append(torch.where(mask, end, start))
        return torch.cat(changed)

    between = similarity_under(detector, targets, len(orders) * inner, compose)
    ends = similarity_under(detector, targets, 2, lambda rows: torch.cat([start, end])[rows])
    middle = between.view(len(targets), len(orders), inner).transpose(0, 1)
    first, last = (ends[None, :, i : i + 1].expand(len(orders), -1, -1) for i in (0, 1))
    return torch.cat([first, middle, last], 2)


def box_order(box: Tensor, random_order: Tensor, size: tuple[int, int]) -> Tensor:
    """The control that knows the box alone: its pixels first, the others by their distance from it, int64 (H x W).

    Args:
        box: x1, y1, x2, y2 in pixels, (4,).
        random_order: Pixels in a random order, which settles ties, int64 (H x W).
        size: Height and width.
    """
    y = torch.arange(size[0], device=box.device) + 0.5
    x = torch.arange(size[1], device=box.device) + 0.5
    across = (box[0] - x).clamp(min=0) + (x - box[2]).clamp(min=0)
    down = (box[1] - y).clamp(min=0) + (y - box[3]).clamp(min=0)
    distance = (down[:, None] ** 2 + across[None] ** 2).flatten()
    shuffled = random_order.to(box.device)
    return shuffled[distance[shuffled].argsort(stable=True)]
