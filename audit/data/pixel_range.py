"""Which pixel values are black and white, where images have more than 8 bits: decided once over a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.image_options import PixelRange
from audit.core.note import Note, note
from audit.core.pixel_range import BARELY_OUTSIDE

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras, scanners and detectors have."""
_LARGEST_SCORE = 20
"""Floats beyond the usual ranges but below this are normalised: (x - mean) / std of images reaches no further."""
_NEARLY = 0.9
"""Floats in -1 to 1 reach this far: -0.5 to 0.5 is another range, and less is normalised otherwise."""
_DARK = 8
"""Images whose brightest values stay below this part of the range are dark enough to say so."""


@dataclass(frozen=True, slots=True)
class PixelExtent:
    """The values that occur in an image.

    Attributes:
        low: The least.
        high: The largest.
        floating: Whether they are floats.
    """

    low: float
    high: float
    floating: bool


def extent_of(pixels: NDArray[Any]) -> PixelExtent:
    """The values that occur in `pixels`.

    Args:
        pixels: Numbers of any shape, at least one.

    Raises:
        ValueError: Where some are no finite numbers.
    """
    floating = not np.issubdtype(pixels.dtype, np.integer)
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(pixels)).sum())
        raise ValueError(f"{count:,} of {pixels.size:,} pixel values are NaN or infinite")
    return PixelExtent(low, high, floating)


def common_range(extents: Iterable[PixelExtent], source: str) -> PixelRange:
    """The range of a data set: the fewest usual bits that hold every value, 0 to 1, -1 to 1, or what occurs.

    Args:
        extents: Of its images, at least one.
        source: Name of the data, for errors.

    Raises:
        DataError: For floats that look normalised, whose range nobody can tell, and for floats beside integers whose
            range is another.
    """
    listed = tuple(extents)
    kinds = [[e for e in listed if e.floating is floating] for floating in (False, True)]
    wholes = [_joined(kind) for kind in kinds if kind]
    ranges = [_usual_range(whole) for whole in wholes]
    for whole, chosen in zip(wholes, ranges, strict=True):
        if chosen is None:
            raise DataError(
                f"{source} has floating-point pixels from {whole.low:g} to {whole.high:g}; 0 to 1, -1 to 1 or 0 to 255 "
                "was expected. Undo any normalisation, which belongs to the model (--mean, --std), or say which values "
                f"are black and white with --pixel-range, such as --pixel-range={whole.low:g},{whole.high:g}."
            )
    common = _usual_range(_joined(listed))
    unit_floats = kinds[1] and ranges[-1] in ((0.0, 1.0), (-1.0, 1.0))
    if common is None or (unit_floats and common != ranges[-1]):
        integers, floats = wholes
        raise DataError(
            f"{source} has {len(kinds[1]):,} image{'s'[: len(kinds[1]) != 1]} of floating-point pixels from "
            f"{floats.low:g} to {floats.high:g} beside {len(kinds[0]):,} of integers from {integers.low:g} to "
            f"{integers.high:g}; one range was expected. Store them in one form, or say which values are black and "
            "white in all of them with --pixel-range."
        )
    return common


def _joined(extents: Sequence[PixelExtent]) -> PixelExtent:
    return PixelExtent(
        min(extent.low for extent in extents),
        max(extent.high for extent in extents),
        any(extent.floating for extent in extents),
    )


def to_bytes(pixels: NDArray[Any], pixel_range: PixelRange) -> NDArray[np.uint8]:
    """Pixels scaled so that the range becomes 0 to 255, rounded; values outside it are clipped.

    Args:
        pixels: Numbers of any shape.
        pixel_range: What is black and white.
    """
    low, high = pixel_range
    if np.issubdtype(pixels.dtype, np.integer) and low == int(low) and high == int(high):
        black, span = int(low), int(high) - int(low)
        fits = 256 * span < 2**31 and -(2**30) < black and pixels.dtype.itemsize < 4
        whole: NDArray[Any] = pixels.astype(np.int32 if fits else np.int64)
        np.clip(whole, black, black + span, out=whole)
        whole -= black
        whole *= 255
        whole += span // 2
        whole //= span
        return whole.astype(np.uint8)
    scaled: NDArray[np.uint8] = np.rint(to_unit(pixels.astype(np.float64), pixel_range) * 255).astype(np.uint8)
    return scaled


def to_unit(pixels: NDArray[Any], pixel_range: PixelRange) -> NDArray[Any]:
    """Pixels scaled so that the range becomes 0 to 1; values outside it are clipped.

    Args:
        pixels: Floats of any shape.
        pixel_range: What is black and white.
    """
    low, high = pixel_range
    scaled = pixels if (low, high) == (0, 1) else (pixels - low) / (high - low)
    return np.clip(scaled, 0, 1)


def range_note(extents: Sequence[PixelExtent], pixel_range: PixelRange, uneven: Note | str = "") -> Note:
    """Say which values are taken for black and white.

    Args:
        extents: Of the images that have more than 8 bits, at least one.
        pixel_range: The range that is used.
        uneven: Says in which classes such images are more frequent; empty where in none.
    """
    low, high = min(extent.low for extent in extents), max(extent.high for extent in extents)
    return note(
        "data_deep",
        "Images of 16 bits or more, rounded to 8: {count}{uneven}. Their values are {low} to {high}; the range of "
        "{black} to {white} is taken for black to white, and --pixel-range gives another.{dark}",
        count=len(extents),
        uneven=uneven,
        low=f"{low:g}",
        high=f"{high:g}",
        black=f"{pixel_range[0]:g}",
        white=f"{pixel_range[1]:g}",
        dark=dark_note([extent.high for extent in extents], pixel_range),
    )


def dark_note(brightest: Sequence[float], pixel_range: PixelRange) -> Note | str:
    """Say that half of the images are nearly black in this range; nothing where they are not.

    Args:
        brightest: The largest value of each image.
        pixel_range: The range that is used.
    """
    low, high = pixel_range
    middle = float(np.median(brightest))
    if not low < middle < low + (high - low) / _DARK:
        return ""
    return note(
        "data_dark",
        " In this range most of it is nearly black: below {share} of the range.",
        share=f"{(middle - low) / (high - low):.1%}",
    )


def _usual_range(extent: PixelExtent) -> PixelRange | None:
    low, high = extent.low, extent.high
    if not extent.floating:
        return (low, high) if low < 0 else (0.0, _depth(high))
    if low >= -BARELY_OUTSIDE and high <= 1 + BARELY_OUTSIDE:
        return (0.0, 1.0)
    if -1 - BARELY_OUTSIDE <= low <= -_NEARLY and _NEARLY / 2 <= high <= 1 + BARELY_OUTSIDE:
        return (-1.0, 1.0)
    if -_LARGEST_SCORE < low and high < _LARGEST_SCORE:
        return None
    return (low, high) if low < -BARELY_OUTSIDE * high else (0.0, _depth(high))


def _depth(high: float) -> float:
    """The largest value of the fewest usual bits that hold `high`; itself where it needs more than 16."""
    return next((2.0**bits - 1 for bits in _DEPTHS if high <= (2**bits - 1) * (1 + BARELY_OUTSIDE)), high)
