"""Splits of images that are already in memory, and the checks of their arrays."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.pixel_range import is_rounding, rounding_notes
from audit.data.dataset import Split

_Array = NDArray[Any]
_log = logging.getLogger("audit")


def array_split(images: _Array, labels: _Array, *, name: str, classes: int, source: str) -> Split:
    """Make a split of arrays.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W); integers in 0..255 or floats in [0, 1].
        labels: One integer an image, (N,) or (N, 1).
        name: "test" or "train"; begins the ids ("test/00017").
        classes: Number of classes.
        source: Name of the source, for errors.

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
    pixels = as_pixels(pixels, source)
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


def as_pixels(images: _Array, source: str) -> _Array:
    """Pixels as uint8, or as float32 in [0, 1].

    Args:
        images: Integers in 0..255 or floats in [0, 1], of any shape.
        source: Name of the source, for errors.

    Raises:
        DataError: For another type or range.
    """
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_ or not np.issubdtype(images.dtype, np.number):
        raise DataError(f"{source} has pixels of type {images.dtype}; uint8, or float in [0, 1], was expected.")
    low, high = float(images.min()), float(images.max())
    if np.issubdtype(images.dtype, np.integer) and low >= 0 and high <= 255:
        return images.astype(np.uint8)
    if np.issubdtype(images.dtype, np.floating) and is_rounding(low, high):
        for sentence in rounding_notes(low, high):
            _log.warning("%s: %s", source, sentence)
        return images.astype(np.float32).clip(0, 1)
    raise DataError(
        f"{source} has {images.dtype} pixels from {low:.8g} to {high:.8g}; integers in 0..255 or floats in [0, 1] were "
        "expected. Undo any normalisation: it belongs to the model (--mean, --std)."
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


def number_names(labels: Sequence[_Array], source: str) -> tuple[str, ...]:
    """Class names "0", "1", ... up to the highest label.

    Args:
        labels: The labels of each part.
        source: Name of the source, for errors.

    Raises:
        DataError: When the labels are no integers, or fewer than two classes.
    """
    highest = max(
        (int(array.max()) for array in labels if array.size and np.issubdtype(array.dtype, np.integer)), default=-1
    )
    if not 1 <= highest < 100_000:
        raise DataError(
            f"{source} has labels that name no classes (highest {highest}); integers from 0 with at least two classes "
            "were expected. Turn one-hot rows into class numbers with argmax."
        )
    return tuple(str(i) for i in range(highest + 1))


def _fingerprint(split: str, pixels: _Array, labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(repr((split, str(pixels.dtype), pixels.shape)).encode())
    digest.update(labels.astype("<i8").tobytes())
    for start in range(0, len(pixels), 4096):
        digest.update(np.ascontiguousarray(pixels[start : start + 4096]).data)
    return digest.hexdigest()
