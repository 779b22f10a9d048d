"""Resizing of images in memory by the filters that files are resized by, and the words for it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from audit.core.image_options import Interpolation
from audit.core.note import Note, note


def filter_words(interpolation: Interpolation | None) -> Note:
    """The filter of resizing, in words.

    Args:
        interpolation: Its name; None for bilinear.
    """
    if interpolation == "nearest":
        return note("data_filter_nearest", "nearest neighbour")
    return note("data_filter", "{filter}, antialiased", filter=[str(interpolation or "bilinear")])


def resize_images(images: Tensor, size: tuple[int, int], interpolation: Interpolation | None) -> Tensor:
    """Resize images; what a filter overshoots is not clipped.

    Args:
        images: Float32 (N, C, H, W).
        size: (height, width) of the result in pixels.
        interpolation: The filter; None for bilinear.

    Returns:
        Float32 (N, C, height, width).
    """
    if interpolation in (None, "bilinear"):
        return interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    kind = Image.Resampling[str(interpolation).upper()]
    planes = images.reshape(-1, *images.shape[2:]).numpy()
    resized = [np.asarray(Image.fromarray(plane).resize(size[::-1], kind)) for plane in planes]
    return torch.from_numpy(np.array(resized, np.float32).reshape(*images.shape[:2], *size))
