"""Objects in images and what a detector finds, as tensors: one value an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.boxes import PackedDetections, PackedObjects


@dataclass(frozen=True)
class _InOneImage:
    """Tensors with a row a box."""

    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        """The same on a device.

        Args:
            device: Where the tensors are to be.
        """
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Objects(_InOneImage):
    """The true objects of one image, M of them; M may be 0.

    Attributes:
        boxes: Float32 (M, 4), x1, y1, x2, y2 in pixels of the image as the model gets it.
        labels: Position of the class among the detector's classes, int64 (M,).
        areas: Area of the object in square pixels, float32 (M,): of its mask where the data has one, else of its box.
        crowd: Whether the box stands for a group, which is neither found nor missed, bool (M,).
    """

    areas: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class Detections(_InOneImage):
    """What a detector found in one image, M boxes by falling score; M may be 0.

    Attributes:
        boxes: Float32 (M, 4), x1, y1, x2, y2 in pixels of the image as the model gets it.
        labels: Position of the class among the detector's classes, int64 (M,).
        scores: Confidence, float32 (M,) in [0, 1].
    """

    scores: Tensor


@dataclass(frozen=True)
class Candidates:
    """The boxes that a detector considers in one image before it suppresses any, K of them, in no order.

    Attributes:
        boxes: Float32 (K, 4), x1, y1, x2, y2 in pixels of the image as the model gets it.
        scores: What each box scores for each class, float32 (K, classes) in [0, 1].
    """

    boxes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)


_Item = TypeVar("_Item", Objects, Detections)


def pack_objects(images: Sequence[Objects]) -> PackedObjects:
    """The objects of several images as arrays.

    Args:
        images: The objects of each.
    """
    return PackedObjects(**_packed(images, Objects))  # type: ignore[arg-type]


def pack_detections(images: Sequence[Detections]) -> PackedDetections:
    """What was found in several images as arrays.

    Args:
        images: The detections in each.
    """
    return PackedDetections(**_packed(images, Detections))  # type: ignore[arg-type]


def unpack_objects(packed: PackedObjects) -> list[Objects]:
    """The objects of each image, on the CPU.

    Args:
        packed: Those of all.
    """
    return _unpacked(packed, Objects)


def unpack_detections(packed: PackedDetections) -> list[Detections]:
    """What was found in each image, on the CPU.

    Args:
        packed: What was found in all.
    """
    return _unpacked(packed, Detections)


_TYPES = {
    "boxes": (np.float32, (0, 4)),
    "labels": (np.int64, (0,)),
    "areas": (np.float32, (0,)),
    "crowd": (np.bool_, (0,)),
    "scores": (np.float32, (0,)),
}


def _packed(images: Sequence[Objects] | Sequence[Detections], kind: type[_Item]) -> dict[str, object]:
    arrays: dict[str, object] = {"counts": np.array([len(image) for image in images], dtype=np.int64)}
    for field in fields(kind):
        dtype, empty = _TYPES[field.name]
        parts: list[NDArray[Any]] = [
            getattr(image, field.name).detach().cpu().numpy().astype(dtype) for image in images
        ]
        arrays[field.name] = np.concatenate([np.zeros(empty, dtype), *parts])
    return arrays


def _unpacked(packed: PackedObjects | PackedDetections, kind: type[_Item]) -> list[_Item]:
    return [
        kind(
            **{field.name: torch.from_numpy(getattr(packed, field.name)[packed.rows(image)]) for field in fields(kind)}
        )
        for image in range(len(packed.counts))
    ]
