"""Brightness and saturation as in the HSV cone, without going there."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.types import Images

_LUMA = (0.299, 0.587, 0.114)


def grey(images: Images) -> Tensor:
    """The luminance (N, 1, H, W) of colour (ITU-R BT.601); the mean of any other number of channels.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor(_LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def brightened(images: Images, by: float) -> Images:
    """`by` added to the value, hue and saturation kept.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        by: What is added, in [0, 1].
    """
    value = images.amax(1, keepdim=True)
    lifted = (value + by).clamp(0, 1)
    return torch.where(value > 0, images * (lifted / value.clamp(min=1e-6)), lifted)


def saturated(images: Images, factor: float, offset: float) -> Images:
    """Saturation s becomes factor s + offset, hue and value kept; grey pixels take the hue 0, red.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        factor: What the saturation is multiplied with.
        offset: What is added to it then.
    """
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = value - lowest
    red = torch.tensor([0.0, 1.0, 1.0], device=images.device).view(1, 3, 1, 1)
    distance = torch.where(spread > 0, (value - images) / spread.clamp(min=1e-6), red)
    saturation = (factor * spread / value.clamp(min=1e-6) + offset).clamp(0, 1)
    return value * (1 - saturation * distance)
