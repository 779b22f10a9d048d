"""What a mask queue learned, in a form that evidence keeps and another queue recalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMED = "asked_"
"""Before the names of the arrays in evidence."""


@dataclass(frozen=True)
class MaskCache:
    """Masks of N images and the outputs under them, image after image.

    `counts` int64 (N,), masks of each image; `masks` uint8 (K, bytes), rows of `np.packbits`, nothing set beyond an
    image's segments; `outputs` float32 (K,); `offered` bool (K,), which `MaskQueue.offer` was given.
    """

    counts: NDArray[np.int64]
    masks: NDArray[np.uint8]
    outputs: NDArray[np.float32]
    offered: NDArray[np.bool_]

    def part(self, part: slice) -> MaskCache:
        """Those of a stretch of the images."""
        ends = np.concatenate([[0], self.counts.cumsum()])
        start, stop, _ = part.indices(len(self.counts))
        rows = slice(int(ends[start]), int(ends[stop]))
        return MaskCache(self.counts[part], self.masks[rows], self.outputs[rows], self.offered[rows])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As evidence keeps them."""
        return {_NAMED + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> MaskCache:
        """What `arrays` wrote."""
        return cls(**{field.name: arrays[_NAMED + field.name] for field in fields(cls)})


def joined(parts: Sequence[MaskCache]) -> MaskCache:
    """Answers of images one after another, as one."""
    widest = max(part.masks.shape[1] for part in parts)
    padded = [replace(part, masks=fitted(part.masks, widest)) for part in parts]
    return MaskCache(*(np.concatenate([getattr(part, field.name) for part in padded]) for field in fields(MaskCache)))


def fitted(bits: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Packed rows cut or padded to `width` bytes."""
    kept = bits[:, :width]
    return np.pad(kept, ((0, 0), (0, width - kept.shape[1])))
