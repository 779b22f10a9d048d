"""Boxes of many images as arrays, one image after another: how evidence stores what a detector found. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""Corners x1, y1, x2, y2 in pixels of the image, (M, 4), x to the right and y down; x1 <= x2 and y1 <= y2."""


@dataclass(frozen=True)
class _Packed:
    """Arrays whose first axis is that of the boxes, but for `counts`, which says how many each image has."""

    counts: NDArray[np.int64]

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays under names, as evidence keeps them.

        Args:
            prefix: What each name begins with, such as "objects".
        """
        return {f"{prefix}_{name}": value for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Self:
        """What evidence keeps.

        Args:
            arrays: What `arrays` gave.
            prefix: What each name begins with.
        """
        return cls(**{field.name: arrays[f"{prefix}_{field.name}"] for field in fields(cls)})

    def rows(self, image: int) -> slice:
        """Where an image's boxes are.

        Args:
            image: Its position, 0 to N - 1.
        """
        start = int(self.counts[:image].sum())
        return slice(start, start + int(self.counts[image]))

    def first(self, images: int) -> Self:
        """Those of the first images.

        Args:
            images: How many.
        """
        end = int(self.counts[:images].sum())
        parts = {name: value[: images if name == "counts" else end] for name, value in vars(self).items()}
        return type(self)(**parts)


@dataclass(frozen=True)
class PackedObjects(_Packed):
    """The true objects of N images, T in all.

    Attributes:
        counts: Objects of each image, int64 (N,), adding up to T.
        boxes: Float32 (T, 4), x1, y1, x2, y2 in pixels.
        labels: Position of the class among the detector's classes, int64 (T,).
        areas: Area of the object in square pixels, float32 (T,): of its mask where the data has one, else of its box.
        crowd: Whether the box stands for a group, which is neither found nor missed, bool (T,).
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class PackedDetections(_Packed):
    """What a detector found in N images, T boxes in all; within an image by falling score.

    Attributes:
        counts: Detections of each image, int64 (N,), adding up to T.
        boxes: Float32 (T, 4), x1, y1, x2, y2 in pixels.
        labels: Position of the class among the detector's classes, int64 (T,).
        scores: Confidence, float32 (T,) in [0, 1].
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
