"""Arrays as small pictures: images as they are, attributions as grey sprites that the page colours."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.core.evidence import Array
from audit.document.model import Heatmap, Picture

LARGEST = 112
"""Longest side of a thumbnail, in pixels; larger images are scaled down."""
_LOSSLESS_UP_TO = 64
_TINT = (255.0, 140.0, 0.0)
"""Orange, which shows on grey, on most photographs, and to people who do not tell red from green."""
_GAP = 2
"""Pixels between the images of a strip."""
_STEP = 8
"""Grey levels between the shades of a heatmap: 32 shades look alike and take half the bytes of 256."""


def picture(image: NDArray[np.uint8], *, largest: int = LARGEST) -> Picture:
    """A thumbnail of an image, made from pixels alone: it carries no metadata.

    Args:
        image: uint8 (C, H, W) with one or three channels; of more, the first three are shown.
        largest: Its longest side in pixels.
    """
    pixels = image[0] if image.shape[0] == 1 else np.moveaxis(image[:3], 0, -1)
    return _encode(Image.fromarray(np.ascontiguousarray(pixels)), largest)


def strip(images: Array) -> Picture:
    """Images side by side.

    Args:
        images: uint8 (N, C, H, W).
    """
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    gap = np.full((*shown.shape[1:3], _GAP), 128, np.uint8)
    joined = np.concatenate([part for image in shown for part in (gap, image)][1:], 2)
    pixels = joined[0] if len(joined) == 1 else np.moveaxis(joined, 0, -1)
    return _encode(Image.fromarray(np.ascontiguousarray(pixels)), len(images) * LARGEST)


def marked_strip(images: Array, maps: Array) -> Picture:
    """Images side by side, each dimmed where its map is 0 and tinted where it is large.

    Args:
        images: uint8 (N, C, H, W).
        maps: In [0, 1], float (N, H, W).
    """
    pixels = np.asarray(images[:, :3], np.float64)
    pixels = np.repeat(pixels, 3, 1) if pixels.shape[1] < 3 else pixels
    strength = np.rint(np.clip(np.nan_to_num(maps), 0, 1) * 8)[:, None] / 8
    tinted = pixels * (0.45 + 0.25 * strength) + strength * 0.45 * np.array(_TINT)[None, :, None, None]
    gap = np.full((3, pixels.shape[2], _GAP), 128)
    parts = [part for image in tinted for part in (gap, image)][1:]
    strip = np.rint(np.clip(np.concatenate(parts, 2), 0, 255)).astype(np.uint8)
    return _encode(Image.fromarray(np.ascontiguousarray(np.moveaxis(strip, 0, -1))), len(images) * LARGEST)


def picture_of_floats(image: Array) -> Picture:
    """A thumbnail of an image, rounded to 256 levels.

    Args:
        image: Float (C, H, W), clipped to [0, 1].
    """
    return picture(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))


def heatmap(attribution: Array, *, signed: bool, scale: float | None = None) -> Heatmap:
    """A grey sprite of an attribution, summed over its channels.

    Args:
        attribution: Float (C or 1, H, W).
        signed: Whether grey is zero, black negative and white positive; else black is zero, and negative values are
            black.
        scale: The absolute value drawn in full colour, which several maps may share; None for the map's largest.
    """
    values = np.asarray(attribution, np.float64).sum(axis=0)
    largest = magnitude(attribution)
    full = largest if scale is None else scale
    unit = np.clip(values / full, -1, 1) if full > 0 else np.zeros_like(values)
    level = 127.5 + 127.5 * unit if signed else 255 * np.clip(unit, 0, 1)
    grey = np.clip(np.rint(np.nan_to_num(level) / _STEP) * _STEP, 0, 255).astype(np.uint8)
    sprite = _encode(Image.fromarray(grey))
    return Heatmap(picture=sprite, signed=signed, scale=full, largest=None if scale is None else largest)


def magnitude(attribution: Array) -> float:
    """The largest absolute value of an attribution summed over its channels.

    Args:
        attribution: Float (C or 1, H, W).
    """
    return float(np.abs(np.asarray(attribution, np.float64).sum(axis=0)).max())


def _encode(image: Image.Image, largest: int = LARGEST) -> Picture:
    if max(image.size) > largest:
        image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    lossless = max(image.size) <= _LOSSLESS_UP_TO
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=50 if lossless else 80, method=4)
    return Picture(
        media_type="image/webp",
        height=image.height,
        width=image.width,
        data=base64.b64encode(buffer.getvalue()).decode("ascii"),
    )
