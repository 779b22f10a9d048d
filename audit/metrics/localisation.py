"""Localisation: whether a map lies on the object, where its place is known."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.registry import metric
from audit.core.types import Attributions


@metric(reference="arXiv:2003.07258", unit="share", better="higher")
def relevance_mass(attributions: Attributions, masks: Tensor) -> Tensor:
    """The share of positive attribution inside the mask, float64 (N,); NaN where none is positive.

    Relevance mass accuracy of arXiv:2003.07258.

    Args:
        attributions: Float (N, C or 1, H, W).
        masks: True where the object lies, bool (N, H, W).
    """
    positive = precise(attributions).sum(1).clamp(min=0)
    masks = masks.to(positive.device)
    total = positive.flatten(1).sum(1)
    return torch.where(total > 0, (positive * masks).flatten(1).sum(1) / total, torch.nan)


@metric(reference="arXiv:2003.07258", unit="share", better="higher")
def relevance_rank(attributions: Attributions, masks: Tensor) -> Tensor:
    """The share of the K highest pixels inside the mask, K its size, float64 (N,); NaN for an empty mask.

    Relevance rank accuracy of arXiv:2003.07258.

    Args:
        attributions: Float (N, C or 1, H, W).
        masks: True where the object lies, bool (N, H, W).
    """
    order = precise(attributions).sum(1).flatten(1).argsort(dim=1, descending=True)
    masks = masks.to(order.device)
    inside = precise(masks.flatten(1).gather(1, order))
    size = masks.flatten(1).sum(1)
    first = torch.arange(order.shape[1], device=order.device) < size[:, None]
    return torch.where(size > 0, (inside * first).sum(1) / size, torch.nan)


@metric(reference="arXiv:1608.00507", unit="share", better="higher")
def pointing_game(attributions: Attributions, masks: Tensor) -> Tensor:
    """1.0 where the highest pixel lies inside the mask, else 0.0, float64 (N,).

    The pointing game of arXiv:1608.00507.

    Args:
        attributions: Float (N, C or 1, H, W).
        masks: True where the object lies, bool (N, H, W).
    """
    top = precise(attributions).sum(1).flatten(1).argmax(1)
    return precise(masks.to(top.device).flatten(1).gather(1, top[:, None]).squeeze(1))
