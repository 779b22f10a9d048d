"""The objects of several images as tensors of one shape, for losses that are computed on whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audit.core.objects import Objects


@dataclass(frozen=True)
class PaddedObjects:
    """The objects of N images, filled up to M each.

    Attributes:
        boxes: Float32 (N, M, 4).
        labels: Int64 (N, M).
        there: Whether there is an object to find at all, bool (N, M).
        crowd: Whether the box stands for a group, bool (N, M).
    """

    boxes: Tensor
    labels: Tensor
    there: Tensor
    crowd: Tensor


def pad_objects(objects: Sequence[Objects]) -> PaddedObjects:
    """Fill up every image to the same number of objects.

    Args:
        objects: Those of each image; at least one image.
    """
    sizes = [len(some) for some in objects]
    device = objects[0].boxes.device
    filled = torch.arange(max(sizes), device=device) < torch.tensor(sizes, device=device)[:, None]
    crowd = pad_sequence([some.crowd for some in objects], batch_first=True)
    return PaddedObjects(
        boxes=pad_sequence([some.boxes for some in objects], batch_first=True),
        labels=pad_sequence([some.labels for some in objects], batch_first=True),
        there=filled & ~crowd,
        crowd=crowd,
    )
