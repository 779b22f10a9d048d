"""Choices of how images are read and resized. It imports no torch and no Pillow: the configuration needs it."""

from __future__ import annotations

from typing import Literal, get_args

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"]
"""Filters of resizing, Pillow's, all antialiased but nearest."""

Transparency = Literal["drop", "white", "black", "grey"]
"""What becomes of transparent pixels: the colour that the file holds below, or one that they are laid upon."""

PixelRange = tuple[float, float]
"""The pixel values that are black and white."""


def interpolation_named(name: object) -> Interpolation | None:
    """The filter of resizing of a name.

    Args:
        name: What a library calls it.

    Returns:
        None for a name that is none of the filters'.
    """
    return next((known for known in get_args(Interpolation) if known == name), None)


ORIGINAL_SIDE, ORIGINAL_ASPECT = "original side", "original aspect"
"""What the size and the proportions of a file, before it was resized, are called among what is known of an image."""
