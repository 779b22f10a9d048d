"""What can be said of an image without a model: how bright, how sharp, how large its object is, and where it lies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.types import Images, Masks

GREY_ATTRIBUTES = ("brightness", "contrast", "sharpness", "object_size", "object_row", "object_column")
"""What is said of every image."""
COLOUR_ATTRIBUTES = ("saturation", "warmth")
"""What is said of images of three channels besides."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
_UNLIKE_BORDER = 0.1
"""How far a pixel is from the border's median brightness, where no mask says what the object is."""
_TINY = 1e-6


def attribute_names(channels: int) -> tuple[str, ...]:
    """The names of what `image_attributes` says, in its order.

    Args:
        channels: Channels of the images.
    """
    return (*GREY_ATTRIBUTES, *COLOUR_ATTRIBUTES) if channels == 3 else GREY_ATTRIBUTES


def image_attributes(images: Images, masks: Masks | None = None) -> Tensor:
    """The attributes of each image.

    Brightness is the mean of the pixels and contrast their standard deviation; sharpness is the mean absolute Laplacian
    over the contrast; the size of the object is the share of the pixels of its mask or, without one, of those that are
    unlike the median of the border; its row and column are its centre of mass, from 0 (top, left) to 1. Saturation is
    the mean of largest less smallest channel over largest; warmth is the mean of red less blue.

    Args:
        images: Float (N, C, H, W) in [0, 1].
        masks: Where the object is, bool (N, H, W); None where that is not known.

    Returns:
        Float32 (N, A), in the order of `attribute_names`; the centre of an image without an object is its middle.
    """
    grey = _brightness(images)
    contrast = grey.flatten(1).std(1, correction=0)
    weight = _object(grey) if masks is None or not bool(masks.any()) else masks.to(grey)
    size = (weight > 0).float().mean((1, 2))
    row, column = (_centre(weight, axis) for axis in (1, 2))
    columns = [grey.mean((1, 2)), contrast, _sharpness(grey, contrast), size, row, column]
    if images.shape[1] == 3:
        largest, smallest = images.amax(1), images.amin(1)
        columns += [
            ((largest - smallest) / largest.clamp(min=_TINY)).mean((1, 2)),
            (images[:, 0] - images[:, 2]).mean((1, 2)),
        ]
    return torch.stack(columns, 1).float()


def _brightness(images: Images) -> Tensor:
    if images.shape[1] != 3:
        return images.float().mean(1)
    return torch.einsum("nchw,c->nhw", images.float(), torch.tensor(_LUMA, device=images.device))


def _sharpness(grey: Tensor, contrast: Tensor) -> Tensor:
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=grey.device)[None, None]
    padded = functional.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")
    edges = functional.conv2d(padded, kernel).abs().mean((1, 2, 3))
    return edges / contrast.clamp(min=_TINY)


def _object(grey: Tensor) -> Tensor:
    """How far each pixel is from the median of the border, 0 where that is close."""
    border = torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1)
    distance = (grey - border.median(1).values[:, None, None]).abs()
    return distance.where(distance > _UNLIKE_BORDER, 0.0)


def _centre(weight: Tensor, axis: int) -> Tensor:
    """The centre of mass along an axis, in [0, 1]; the middle where there is no mass."""
    along = weight.sum(3 - axis)
    places = (torch.arange(along.shape[1], device=weight.device) + 0.5) / along.shape[1]
    total = along.sum(1)
    return torch.where(total > 0, (along * places).sum(1) / total.clamp(min=_TINY), 0.5)
