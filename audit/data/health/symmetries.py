"""Distances between images over the eight symmetries of the square and over blurs, in cosine coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.data.health.signature import THUMBNAIL

COUNT = 8
"""The symmetries: bit 1 of a number mirrors left and right, bit 2 up and down, and bit 4 transposes before that."""
_BLURS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
"""Standard deviations, in pixels of the thumbnail, that one of two images may be blurred by to match the other."""
_FREQUENCIES = np.add.outer(np.arange(THUMBNAIL) ** 2, np.arange(THUMBNAIL) ** 2)
_FACTORS = np.stack([np.exp(-0.5 * (blur * np.pi / THUMBNAIL) ** 2 * _FREQUENCIES) for blur in _BLURS]).astype(
    np.float32
)
_ALTERNATE = np.where(np.arange(THUMBNAIL) % 2, -1.0, 1.0).astype(np.float32)
_AT_ONCE = 4096


def symmetric_distances(
    coefficients: NDArray[np.float16], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How far apart two images are at best, when the second is mirrored or turned and either of them blurred.

    Args:
        coefficients: Of all images, of norm 1, (N, 16, 16).
        pairs: Positions, (P, 2).

    Returns:
        The distance of the normalised coefficients, float64 (P,), 0 to 2, and the number of the symmetry, int64 (P,).
    """
    distances, symmetries = np.zeros(len(pairs)), np.zeros(len(pairs), np.int64)
    for start in range(0, len(pairs), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        first, second = (_normalised(coefficients[pairs[part, side]]) for side in (0, 1))
        turned = [changed(second, number) for number in range(COUNT)]
        products = np.stack([np.einsum("nij,nij->n", first, image) for image in turned])
        best = products.argmax(axis=0)
        matched = np.stack(turned)[best, np.arange(len(best))]
        likeness = np.maximum(products.max(axis=0), _blurred_likeness(first, matched))
        distances[part] = np.sqrt(np.maximum(2 - 2 * likeness.astype(np.float64), 0))
        symmetries[part] = best
    return distances, symmetries


def changed(coefficients: NDArray[np.float32], symmetry: int) -> NDArray[np.float32]:
    """The coefficients of mirrored or turned images.

    Args:
        coefficients: (N, 16, 16).
        symmetry: Below `COUNT`.
    """
    result = coefficients.transpose(0, 2, 1) if symmetry & 4 else coefficients
    result = result * _ALTERNATE[None, None, :] if symmetry & 1 else result
    return result * _ALTERNATE[None, :, None] if symmetry & 2 else result


def changed_pixels(image: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """The same change of an image.

    Args:
        image: (C, H, W).
        symmetry: Below `COUNT`.
    """
    result = image.transpose(0, 2, 1) if symmetry & 4 else image
    result = result[:, :, ::-1] if symmetry & 1 else result
    return np.ascontiguousarray(result[:, ::-1, :] if symmetry & 2 else result)


def _normalised(coefficients: NDArray[np.float16]) -> NDArray[np.float32]:
    """Of norm 1 again, as half precision rounds it by up to 0.0005."""
    values = coefficients.astype(np.float32)
    norms = np.sqrt(np.einsum("nij,nij->n", values, values))
    return np.asarray(values / np.maximum(norms, 1e-12)[:, None, None], np.float32)


def _blurred_likeness(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest cosine of the two over blurs of the one or the other, float32 (P,)."""
    product, likeness = first * second, np.full(len(first), -1.0, np.float32)
    for sharper in (first, second):
        squares = sharper**2
        for factor in _FACTORS:
            norms = np.sqrt(np.einsum("nij,ij->n", squares, factor**2))
            cosine = np.einsum("nij,ij->n", product, factor) / np.maximum(norms, 1e-12)
            likeness = np.maximum(likeness, cosine)
    return likeness
