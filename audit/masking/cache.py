"""The answers of a mask queue as arrays, which evidence keeps and another queue preloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREFIX = "asked_"
"""Before the names of the arrays in evidence."""


@dataclass(frozen=True)
class MaskCache:
    """K masks of N images and the outputs under them, image after image.

    Attributes:
        counts: Masks of each image, int64 (N,).
        masks: Rows of `np.packbits`, nothing set beyond an image's segments, uint8 (K, bytes).
        outputs: Float32 (K,).
        offered: Which masks `MaskQueue.offer_samples` was given, bool (K,).
    """

    counts: NDArray[np.int64]
    masks: NDArray[np.uint8]
    outputs: NDArray[np.float32]
    offered: NDArray[np.bool_]

    def part(self, rows: slice) -> MaskCache:
        """The answers about consecutive images.

        Args:
            rows: Their positions.
        """
        ends = np.concatenate([[0], self.counts.cumsum()])
        start, stop, _ = rows.indices(len(self.counts))
        pairs = slice(int(ends[start]), int(ends[stop]))
        return MaskCache(self.counts[rows], self.masks[pairs], self.outputs[pairs], self.offered[pairs])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields by the names that they have in evidence."""
        return {_PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> MaskCache:
        """The cache that `arrays` gave.

        Args:
            arrays: The arrays of evidence, among others.
        """
        return cls(**{field.name: arrays[_PREFIX + field.name] for field in fields(cls)})


def concatenate_caches(caches: Sequence[MaskCache]) -> MaskCache:
    """The answers about several batches of images as one cache.

    Args:
        caches: Their caches in order, at least one.
    """
    widest = max(cache.masks.shape[1] for cache in caches)
    padded = [replace(cache, masks=fit_width(cache.masks, widest)) for cache in caches]
    return MaskCache(*(np.concatenate([getattr(cache, field.name) for cache in padded]) for field in fields(MaskCache)))


def is_cached(name: str) -> bool:
    """Whether an array of evidence belongs to a cache.

    Args:
        name: Its name there.
    """
    return name.startswith(_PREFIX)


def joined_arrays(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The cache of consecutive images, from the arrays of evidence about some of them each; empty where they hold none.

    Args:
        parts: The arrays of each, in the order of the images.
    """
    if not any(is_cached(name) for name in parts[0]):
        return {}
    return concatenate_caches([MaskCache.of(part) for part in parts]).arrays()


def fit_width(bits: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Packed rows cut or padded with zeros, uint8 (K, width).

    Args:
        bits: Rows of `np.packbits`, uint8 (K, bytes).
        width: Bytes of a row.
    """
    cut = bits[:, :width]
    return np.pad(cut, ((0, 0), (0, width - cut.shape[1])))
