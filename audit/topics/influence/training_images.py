"""The training images of a run as a model sees them, a stretch at a time, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.evidence import Array
from audit.core.types import Batch, Images, Labels
from audit.execution.context import Context
from audit.explanation.features import FeaturesAndLogits, features_and_logits
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import CALIBRATION_SPLIT, Slice

_STRETCH = 2000
"""Training images held at once."""
_SIDE = 56
"""Longest side of a stored picture, in pixels."""


@dataclass(frozen=True)
class SeenTraining:
    """Training images as a model sees them.

    Attributes:
        seen: Their features and logits.
        labels: Their labels, int64 (M,).
        ids: Their names.
    """

    seen: FeaturesAndLogits
    labels: Labels
    ids: tuple[str, ...]


def seen_training(context: Context, model: ModelUnderTest, count: int) -> SeenTraining:
    """What a model makes of the first training images, balanced over the classes.

    Args:
        context: Gives the images.
        model: The model; one forward an image.
        count: How many.
    """
    parts: list[FeaturesAndLogits] = []
    labels: list[Tensor] = []
    ids: list[str] = []
    for batch in training_stretches(context, count):
        parts.append(features_and_logits(model, batch.images))
        labels.append(batch.labels)
        ids += batch.ids
    seen = FeaturesAndLogits(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return SeenTraining(seen, torch.cat(labels).to(seen.logits.device), tuple(ids))


def training_pictures(context: Context, count: int, positions: Array) -> Array:
    """Small pictures of some of them, uint8 (t, C, h, w).

    Args:
        context: Gives the images.
        count: How many training images there are, as in `seen_training`.
        positions: Which of them, ascending, int64 (t,).
    """
    parts = []
    for number, batch in enumerate(training_stretches(context, count, positions)):
        inside = positions[positions // _STRETCH == np.unique(positions // _STRETCH)[number]] % _STRETCH
        parts.append(small_pictures(batch.images[torch.from_numpy(inside)]))
    return np.concatenate(parts)


def small_pictures(images: Images) -> Array:
    """Images of at most 56 pixels a side, uint8 (N, C, h, w).

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    scale = min(1.0, _SIDE / max(images.shape[2:]))
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    pictures: Array = (functional.interpolate(images.cpu(), size, mode="area") * 255).round().byte().numpy()
    return pictures


def training_stretches(context: Context, count: int, positions: Array | None = None) -> Iterator[Batch]:
    """The training images a stretch at a time, in order.

    Args:
        context: Gives the images.
        count: How many.
        positions: Only stretches that hold some of these are given, int64 (t,); None for all.
    """
    for start in range(0, count, _STRETCH):
        if positions is None or bool((positions // _STRETCH == start // _STRETCH).any()):
            yield context.others(Slice(CALIBRATION_SPLIT, start, min(start + _STRETCH, count)))
