"""Boxes of many images as arrays, one image after another: how evidence stores what a detector found. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""Corners x1, y1, x2, y2 in pixels of the image, (M, 4), x to the right and y down; x1 <= x2 and y1 <= y2."""


@dataclass(frozen=True)
class PackedObjects:
    """The true objects of N images, T in all.

    Attributes:
        counts: Objects of each image, int64 (N,), adding up to T.
        boxes: Float32 (T, 4), x1, y1, x2, y2 in pixels.
        labels: Position of the class among the detector's classes, int64 (T,).
        areas: Area of the object in square pixels, float32 (T,): of its mask where the data has one, else of its box.
        crowd: Whether the box stands for a group, which is neither found nor missed, bool (T,).
    """

    counts: NDArray[np.int64]
    boxes: Boxes
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The arrays under names, as evidence keeps them.

        Args:
            prefix: What each name begins with, such as "objects".
        """
        return {f"{prefix}_{name}": value for name, value in vars(self).items()}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> PackedObjects:
        """The objects that evidence keeps.

        Args:
            arrays: What `arrays` gave.
            prefix: What each name begins with.
        """
        return PackedObjects(**{name: arrays[f"{prefix}_{name}"] for name in PackedObjects.__dataclass_fields__})  # type: ignore[arg-type]

    def rows(self, image: int) -> slice:
        """Where an image's objects are.

        Args:
            image: Its position, 0 to N - 1.
        """
        return _rows(self.counts, image)

    def first(self, images: int) -> PackedObjects:
        """Those of the first images.

        Args:
            images: How many.
        """
        end = int(self.counts[:images].sum())
        return PackedObjects(
            self.counts[:images], self.boxes[:end], self.labels[:end], self.areas[:end], self.crowd[:end]
        )


@dataclass(frozen=True)
class PackedDetections:
    """What a detector found in N images, T boxes in all; within an image by falling score.

    Attributes:
        counts: Detections of each image, int64 (N,), adding up to T.
        boxes: Float32 (T, 4), x1, y1, x2, y2 in pixels.
        labels: Position of the class among the detector's classes, int64 (T,).
        scores: Confidence, float32 (T,) in [0, 1].
    """

    counts: NDArray[np.int64]
    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The arrays under names, as evidence keeps them.

        Args:
            prefix: What each name begins with, such as "found".
        """
        return {f"{prefix}_{name}": value for name, value in vars(self).items()}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> PackedDetections:
        """The detections that evidence keeps.

        Args:
            arrays: What `arrays` gave.
            prefix: What each name begins with.
        """
        return PackedDetections(**{name: arrays[f"{prefix}_{name}"] for name in PackedDetections.__dataclass_fields__})  # type: ignore[arg-type]

    def rows(self, image: int) -> slice:
        """Where an image's detections are.

        Args:
            image: Its position, 0 to N - 1.
        """
        return _rows(self.counts, image)

    def first(self, images: int) -> PackedDetections:
        """Those in the first images.

        Args:
            images: How many.
        """
        end = int(self.counts[:images].sum())
        return PackedDetections(self.counts[:images], self.boxes[:end], self.labels[:end], self.scores[:end])


def _rows(counts: NDArray[np.int64], image: int) -> slice:
    start = int(counts[:image].sum())
    return slice(start, start + int(counts[image]))
