"""Splits of images that are already in memory, and the checks of their arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.image_options import PixelRange
from audit.core.note import Note, note
from audit.core.pixel_range import rounding_notes
from audit.data.dataset import Split
from audit.data.pixel_range import common_range, dark_note, extent_of, to_bytes, to_unit

_Array = NDArray[Any]
_BYTES: PixelRange = (0.0, 255.0)
_TIMES_BRIGHTER = 16.0
"""A part whose brightest value is above this, beside one that ends at 1, has another scale."""
PLAIN_RANGES: tuple[PixelRange, ...] = ((0.0, 1.0), _BYTES)
"""Of floats and of integers that are taken as they are."""


def array_split(
    images: _Array, labels: _Array, *, name: str, classes: int, source: str, pixel_range: PixelRange | None = None
) -> Split:
    """Make a split of arrays.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W); integers in 0..255, floats in [0, 1], or numbers in
            `pixel_range`.
        labels: One integer an image, (N,) or (N, 1).
        name: "test" or "train"; begins the ids ("test/00017").
        classes: Number of classes.
        source: Name of the source, for errors.
        pixel_range: The values that are black and white; None for those above.

    Raises:
        DataError: When there are no images, or not as many as labels, or either is no such array.
    """
    pixels = channels_first(images, source)
    checked = as_labels(labels, classes, source)
    if len(pixels) != len(checked):
        raise DataError(
            f"{source} has {len(pixels)} images but {len(checked)} labels; one label for each image was expected. "
            "Write both again from the same examples."
        )
    if not len(pixels):
        raise DataError(f"{source} holds no images; at least one was expected. Check how the file was written.")
    pixels = as_pixels(pixels, source, pixel_range)
    return Split(
        labels=checked,
        ids=tuple(f"{name}/{i:05d}" for i in range(len(checked))),
        fetch=lambda index: pixels[index],
        fingerprint=_fingerprint(name, pixels, checked),
    )


def channels_first(images: _Array, source: str) -> _Array:
    """Images with the channels before height and width.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3.
        source: Name of the source, for errors.

    Returns:
        The same pixels as (N, C, H, W).

    Raises:
        DataError: For another shape.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise DataError(
        f"{source} has images of shape {images.shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels "
        "was expected. Reshape the array, and drop an alpha channel."
    )


def as_pixels(images: _Array, source: str, pixel_range: PixelRange | None = None) -> _Array:
    """Pixels as uint8, or as float32 in [0, 1]; values that leave the range by a rounding error are clipped.

    Args:
        images: Integers in 0..255, floats in [0, 1], booleans, or numbers in `pixel_range`; of any shape.
        source: Name of the source, for errors.
        pixel_range: The values that are black and white; None for those above.

    Raises:
        DataError: For another type or range.
    """
    if images.dtype == np.uint8 and pixel_range is None:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    chosen = pixel_range or array_range([images], source)[0] or _BYTES
    if np.issubdtype(images.dtype, np.integer):
        return images.astype(np.uint8, copy=False) if chosen == _BYTES else to_bytes(images, chosen)
    return to_unit(images, chosen).astype(np.float32)


def array_range(
    arrays: Sequence[_Array], source: str, pixel_range: PixelRange | None = None
) -> tuple[PixelRange | None, tuple[Note, ...]]:
    """The values that are black and white in all parts of a data set, and a note where these are not the plain ones.

    There is no common range of booleans, nor of floats in one part and integers in the other.

    Args:
        arrays: The images of each part, at least one in all.
        source: Name of the source, for errors.
        pixel_range: What the user says they are; None where nothing is said.

    Raises:
        DataError: For what are no numbers, or no finite ones, or floats that look normalised.
    """
    filled = [images for images in arrays if images.size]
    for images in filled:
        if not (images.dtype == np.bool_ or images.dtype.kind in "uif"):
            raise DataError(f"{source} has pixels of type {images.dtype}; uint8, or float in [0, 1], was expected.")
    if not filled or len({images.dtype.kind == "f" for images in filled}) > 1 or filled[0].dtype == np.bool_:
        return None, ()
    try:
        extents = [extent_of(images) for images in filled]
    except ValueError as fault:
        raise DataError(f"{source}: {fault}. Replace them, or leave those images out.") from fault
    plain: PixelRange = (0.0, 1.0) if extents[0].floating else _BYTES
    if pixel_range is None and extents[0].floating:
        _require_one_scale([extent.high for extent in extents], source)
    chosen = pixel_range or common_range(extents, source)
    dark = dark_note([min(extent.high for extent in extents)], chosen)
    low, high = min(extent.low for extent in extents), max(extent.high for extent in extents)
    if chosen == plain and not dark:
        return chosen, tuple(rounding_notes(low, high)) if extents[0].floating else ()
    said = note(
        "data_array_range",
        "The pixels are {type} from {low} to {high}; the range of {black} to {white} is taken for black to white, and "
        "--pixel-range gives another.{dark}",
        type=str(filled[0].dtype),
        low=f"{low:g}",
        high=f"{high:g}",
        black=f"{chosen[0]:g}",
        white=f"{chosen[1]:g}",
        dark=dark,
    )
    return chosen, (said,)


def _require_one_scale(highest: Sequence[float], source: str) -> None:
    """Raises DataError where the floats of one part end at 1 and those of the other far above: one was divided."""
    if 0 < min(highest) <= 1.0 + 1e-6 and max(highest) > _TIMES_BRIGHTER:
        raise DataError(
            f"{source} has floating-point pixels up to {min(highest):g} in one part and up to {max(highest):g} in the "
            "other; one range for both was expected. Divide those of the brighter part too, or say which values are "
            "black and white with --pixel-range."
        )


def as_labels(labels: _Array, classes: int, source: str) -> NDArray[np.int64]:
    """Labels as int64 (N,).

    Args:
        labels: Integers from 0, (N,) or (N, 1).
        classes: Number of classes.
        source: Name of the source, for errors.

    Raises:
        DataError: For another shape or type, or a label that is no class; the first such is named.
    """
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise DataError(
            f"{source} has labels of shape {labels.shape} and type {labels.dtype}; one integer an image was expected. "
            "Turn one-hot rows into class numbers with argmax."
        )
    wrong = np.flatnonzero((flat < 0) | (flat >= classes))
    if len(wrong):
        raise DataError(
            f"{source} has label {int(flat[wrong[0]])} at position {int(wrong[0])} ({len(wrong)} out of range); "
            f"0 to {classes - 1} was expected for {classes} classes. Number the classes from 0, or name them all."
        )
    return flat.astype(np.int64)


def _fingerprint(split: str, pixels: _Array, labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(repr((split, str(pixels.dtype), pixels.shape)).encode())
    digest.update(labels.astype("<i8").tobytes())
    for start in range(0, len(pixels), 4096):
        digest.update(np.ascontiguousarray(pixels[start : start + 4096]).data)
    return digest.hexdigest()
