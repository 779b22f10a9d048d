"""What searches for the nearest misclassified image share: the nearest so far, Adam's steps, windows of examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.types import Batch, ClassMask, Images
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8
"""Adam's own: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1."""


@dataclass
class Nearest:
    """The nearest misclassified image of each example so far.

    Attributes:
        images: Float32 (N, C, H, W); the clean image where there is none yet.
        distance: Of it, (N,); infinite where there is none yet.
    """

    images: Images
    distance: Tensor

    @classmethod
    def at(cls, origin: Images) -> Nearest:
        """None yet.

        Args:
            origin: The clean images, float32 (N, C, H, W).
        """
        return cls(origin, torch.full((len(origin),), torch.inf, device=origin.device))

    def see(self, images: Images, broken: Tensor, distance: Tensor) -> None:
        """Keep what is misclassified and nearer than before.

        Args:
            images: One an example, float32 (N, C, H, W).
            broken: Whether each is misclassified, bool (N,).
            distance: Of each, (N,).
        """
        nearer = broken & (distance < self.distance)
        self.images = torch.where(nearer.view(-1, 1, 1, 1), images, self.images)
        self.distance = torch.where(nearer, distance, self.distance)


def adam_direction(gradient: Images, mean: Images, square: Images, number: int) -> Images:
    """Adam's step of length about 1 a value; its moments are updated in place.

    Args:
        gradient: Float32 (N, C, H, W).
        mean: The gradient's running mean, as `gradient`.
        square: The running mean of its square, as `gradient`.
        number: Steps before this one.
    """
    mean.lerp_(gradient, 1 - _MEAN)
    square.lerp_(gradient.square(), 1 - _SQUARE)
    return mean / (1 - _MEAN ** (number + 1)) / adam_scale(square, number)


def adam_scale(square: Images, number: int) -> Images:
    """What Adam divides the gradient by: the diagonal of its metric.

    Args:
        square: The running mean of the gradient's square.
        number: Steps before this one.
    """
    return square.sqrt() / math.sqrt(1 - _SQUARE ** (number + 1)) + _TINY


def in_windows(model: ModelUnderTest, batch: Batch, search: Callable[[Images, ClassMask], Images]) -> Images:
    """A search on as many examples at once as the model's batches hold.

    Args:
        model: The model under attack.
        batch: N examples.
        search: From clean images and their goals to proposals, all on the model's device.

    Returns:
        Float32 (N, C, H, W) on the model's device.
    """
    origin = model.check_images(batch.images)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    parts = list(in_batches(len(batch), model.layout, lambda rows: search(origin[rows], goal[rows])))
    return torch.cat(parts) if parts else origin
