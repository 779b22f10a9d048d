"""A small signature of each image, made in one pass over a split: what copies, outliers and shift are found by.

A copy may be mirrored or turned, scaled, compressed or made lighter. So an image is made grey, averaged down to 16x16
and transformed by a cosine transform (DCT-II), of which the mean is left out and the rest divided by its norm. In these
coefficients a mirrored image differs by signs alone, a turned one by signs and a transposition, and a blur is a factor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from audit.data.dataset import Split

THUMBNAIL = 16
"""Height and width of the grey thumbnail."""
LOW = 8
"""Cosine frequencies a side that the embedding holds: half of the thumbnail's."""
STATISTICS = ("brightness", "contrast", "colour", "sharpness")
"""Columns of `Signatures.statistics`: mean and standard deviation of the pixels, mean distance of the largest from the
least channel, and mean absolute difference of neighbouring pixels, each in units of the pixel range [0, 1]."""
BLANK = 2.5 / 255
"""An image whose values span no more than this is blank: 8-bit rounding and compression make as much of one colour."""
_VALUES = 1 << 22
"""Pixel values read at a time, which bounds memory and changes no answer."""
_WEIGHT = np.exp(-0.5 * (1.25 * np.pi / THUMBNAIL) ** 2 * np.add.outer(np.arange(LOW) ** 2, np.arange(LOW) ** 2))
"""A blur of 1.25 thumbnail pixels, so that a copy that was scaled down and up again stays near its original."""


@dataclass(frozen=True)
class Signatures:
    """What is kept of each image, 800 bytes.

    Attributes:
        hashes: BLAKE2b of the pixels, bytes (N,), 16 each.
        coefficients: Cosine coefficients, float16 (N, 16, 16), of norm 1, zero at (0, 0); all zero for a blank image.
        embedding: Float32 (N, 63), of norm 1: the same for all eight mirrored and turned copies of an image.
        statistics: Float32 (N, 4), see `STATISTICS`.
        spans: Largest less least value of a pixel, float32 (N,), in units of the pixel range [0, 1].
    """

    hashes: NDArray[np.bytes_]
    coefficients: NDArray[np.float16]
    embedding: NDArray[np.float32]
    statistics: NDArray[np.float32]
    spans: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Which images are of one colour, bool (N,)."""
        return self.spans <= BLANK


def sign_splits(splits: Sequence[Split], progress: Callable[[int], None] = lambda done: None) -> Signatures:
    """Read several splits once, one after another; what is kept of them is held once.

    Args:
        splits: The images, of one shape; at least one split.
        progress: Called with the number of images of all splits read so far; may raise to stop.

    Returns:
        The signatures, in the order of the splits.
    """
    result = _reserved(sum(map(len, splits)))
    done = 0
    for split in splits:
        stride = max(1, _VALUES // max(1, split.fetch(np.arange(1))[0].size)) if len(split) else 1
        for start in range(0, len(split), stride):
            part = signatures_of(split.fetch(np.arange(start, min(start + stride, len(split)))))
            for name, values in vars(part).items():
                getattr(result, name)[done : done + len(part)] = values
            done += len(part)
            progress(done)
    return result


def _reserved(count: int) -> Signatures:
    return Signatures(
        hashes=np.zeros(count, "S16"),
        coefficients=np.zeros((count, THUMBNAIL, THUMBNAIL), np.float16),
        embedding=np.zeros((count, LOW * LOW - 1), np.float32),
        statistics=np.zeros((count, len(STATISTICS)), np.float32),
        spans=np.zeros(count, np.float32),
    )


def signatures_of(images: NDArray[np.uint8] | NDArray[np.float32]) -> Signatures:
    """The signatures of images that are in memory.

    Args:
        images: (N, C, H, W), uint8, or float32 in [0, 1].
    """
    hashes = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images]
    scale = np.float32(1 / 255 if images.dtype == np.uint8 else 1)
    unit = images.astype(np.float32) * scale
    grey = unit.mean(axis=1)
    spans = unit.max(axis=(1, 2, 3)) - unit.min(axis=(1, 2, 3)) if len(unit) else np.zeros(0, np.float32)
    coefficients = _unit(_cosines(grey), spans <= BLANK)
    return Signatures(
        hashes=np.array(hashes, dtype="S16"),
        coefficients=coefficients.astype(np.float16),
        embedding=embedding_of(coefficients),
        statistics=_statistics(unit, grey),
        spans=spans,
    )


def embedding_of(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the eight symmetries of the square leave as it is, of the low frequencies.

    Mirroring changes the sign of coefficients and transposing exchanges (u, v) with (v, u), so the larger and the
    smaller of their absolute values are kept. Both are contractions: two images are never farther apart here than their
    nearest mirrored or turned copies are in the blurred coefficients, so that no copy is lost.

    Args:
        coefficients: (N, 16, 16).

    Returns:
        Float32 (N, 63), of norm 1, or 0 for a blank image.
    """
    low = np.abs(coefficients[:, :LOW, :LOW] * _WEIGHT)
    upper, lower = np.triu_indices(LOW, 1)
    one, other, diagonal = low[:, upper, lower], low[:, lower, upper], low[:, np.arange(1, LOW), np.arange(1, LOW)]
    values = np.concatenate([np.maximum(one, other), np.minimum(one, other), diagonal], axis=1)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(norms > 0, norms, 1)).astype(np.float32)


def _cosines(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = _averaging(grey.shape[1]), _averaging(grey.shape[2])
    thumbnails = rows @ grey @ columns.T
    return np.asarray(dctn(thumbnails, axes=(1, 2), norm="ortho"), dtype=np.float32)


def _unit(coefficients: NDArray[np.float32], blank: NDArray[np.bool_]) -> NDArray[np.float32]:
    coefficients[:, 0, 0] = 0
    coefficients[blank] = 0
    norms = np.linalg.norm(coefficients, axis=(1, 2), keepdims=True)
    return np.asarray(coefficients / np.where(norms > 0, norms, 1), np.float32)


@cache
def _averaging(side: int) -> NDArray[np.float32]:
    """The matrix (16, side) that averages pixels over the area of each pixel of the thumbnail."""
    edges = np.linspace(0, side, THUMBNAIL + 1)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(overlap, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _statistics(unit: NDArray[np.float32], grey: NDArray[np.float32]) -> NDArray[np.float32]:
    def edges(axis: int) -> NDArray[np.float32]:
        if grey.shape[axis] < 2:
            return np.zeros(len(grey), np.float32)
        return np.asarray(np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)), np.float32)

    colour = (unit.max(axis=1) - unit.min(axis=1)).mean(axis=(1, 2))
    columns = (grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), colour, (edges(1) + edges(2)) / 2)
    return np.stack(columns, axis=1).astype(np.float32)
