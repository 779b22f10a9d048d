"""An attribution drawn over its image, as a PNG file."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.core.evidence import Array

SIDE = 336
"""Least length of the longer side in pixels; smaller images are enlarged by a whole factor."""
_UP, _DOWN = np.array([178.0, 24.0, 43.0]), np.array([33.0, 102.0, 172.0])
_OPAQUE = 0.85


def overlay_png(image: Array, attribution: Array) -> bytes:
    """A PNG of an attribution over its grey image.

    The attribution is summed over channels: red raises the explained class, blue lowers it. The larger its absolute
    value, the less of the image shows through; the largest is in full colour.

    Args:
        image: Float (C, H, W) in [0, 1] with one or three channels.
        attribution: Float (C or 1, H, W).
    """
    grey = np.asarray(image, np.float64).mean(axis=0)[..., None] * 255
    values = np.nan_to_num(np.asarray(attribution, np.float64).sum(axis=0))
    scale = np.abs(values).max()
    strength = (np.abs(values) / scale if scale > 0 else values)[..., None] * _OPAQUE
    colour = np.where(values[..., None] >= 0, _UP, _DOWN)
    pixels = np.rint((1 - strength) * grey + strength * colour).astype(np.uint8)
    return _png(pixels)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    times = max(1, -(-SIDE // max(pixels.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
