"""Whether the map of a found box points into it: the pointing game and the share of the map inside."""

from __future__ import annotations

import torch
from torch import Tensor


def box_pointing(maps: Tensor, boxes: Tensor) -> Tensor:
    """Whether the highest value lies inside the box, bool (T,); on a tie, whether each of the highest does.

    Zhang et al. 2018, arXiv:1608.00507, section 4.1, with the box as the target and no tolerance.

    Args:
        maps: Float (T, H, W).
        boxes: x1, y1, x2, y2 in pixels, (T, 4).
    """
    highest = maps == maps.flatten(1).amax(1)[:, None, None]
    return ~(highest & ~inside(boxes, maps)).flatten(1).any(1)


def mass_inside(maps: Tensor, boxes: Tensor) -> Tensor:
    """The share of the positive part of the map that lies inside the box, float (T,); the box's own share of the image
    where no value is positive.

    Args:
        maps: Float (T, H, W).
        boxes: x1, y1, x2, y2 in pixels, (T, 4).
    """
    positive, within = maps.clamp(min=0), inside(boxes, maps)
    total = positive.flatten(1).sum(1)
    share = (positive * within).flatten(1).sum(1) / total.clamp(min=1e-30)
    return torch.where(total > 0, share, within.float().flatten(1).mean(1))


def inside(boxes: Tensor, maps: Tensor) -> Tensor:
    """The pixels whose middle lies in each box, bool (T, H, W).

    Args:
        boxes: x1, y1, x2, y2 in pixels, (T, 4).
        maps: Of the size asked about, (T, H, W).
    """
    y = torch.arange(maps.shape[1], device=maps.device) + 0.5
    x = torch.arange(maps.shape[2], device=maps.device) + 0.5
    across = (x[None] >= boxes[:, :1]) & (x[None] < boxes[:, 2:3])
    down = (y[None] >= boxes[:, 1:2]) & (y[None] < boxes[:, 3:])
    return down[:, :, None] & across[:, None]
