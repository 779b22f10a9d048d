"""How much each training image supports each answer, with the two controls: a copy, and labels drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.seeding import derive_seed
from audit.core.types import Batch, Images, Labels
from audit.execution.context import Context
from audit.explanation.features import features_and_logits
from audit.metrics.ekfac import ekfac_influence
from audit.metrics.influence import head_gradients, tracin
from audit.models.under_test import ModelUnderTest
from audit.topics.influence.plan import EKFAC
from audit.topics.influence.training_images import SeenTraining, training_stretches

_NOISE = 0.02
"""Standard deviation of what is added to a copy, in the range of pixels."""


@dataclass(frozen=True)
class TrainingScores:
    """Support for the answers to N images.

    Attributes:
        training: By each training image, (N, M).
        copies: By a copy of the image itself with its answer as the label, (N,).
        random: By each training image under labels drawn at random, (N, M).
    """

    training: Tensor
    copies: Tensor
    random: Tensor


def training_scores(
    context: Context, model: ModelUnderTest, cell: Cell, batch: Batch, training: SeenTraining, scale: float
) -> TrainingScores:
    """The support by the method of a cell, TracIn over the last layer or EK-FAC.

    Args:
        context: Gives the training images.
        model: The model.
        cell: Names the method and the seed.
        batch: The images whose answers are looked at.
        training: What the model makes of the training images.
        scale: Of the head, see `Head.scale`.
    """
    copies = noisy_copies(batch.images, cell.seed)
    draws = np.random.default_rng(derive_seed("influence labels", cell.seed))
    shuffled = training.labels[torch.from_numpy(draws.permutation(len(training.labels))).to(training.labels.device)]
    if cell.method == EKFAC:
        return _by_ekfac(context, model, batch.images, copies, training.labels, shuffled)
    asked, copied = (features_and_logits(model, images) for images in (batch.images, copies))
    answers, seen = asked.logits.argmax(1), training.seen
    own = [head_gradients(asked.features, asked.logits, answers, scale)]

    def support(features: Tensor, logits: Tensor, labels: Labels) -> Tensor:
        return tracin(own, [head_gradients(features, logits, labels, scale)], [1.0], relative=True)

    return TrainingScores(
        support(seen.features, seen.logits, training.labels),
        support(copied.features, copied.logits, answers).diagonal(),
        support(seen.features, seen.logits, shuffled),
    )


def noisy_copies(images: Images, seed: int) -> Images:
    """The images with a little noise of their own.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        seed: Of the noise.
    """
    generator = torch.Generator(device="cpu").manual_seed(derive_seed("influence copies", seed))
    noise = torch.randn(images.shape, generator=generator, device="cpu").to(images)
    return (images + _NOISE * noise).clamp(0, 1)


def _by_ekfac(
    context: Context, model: ModelUnderTest, images: Images, copies: Images, labels: Labels, shuffled: Labels
) -> TrainingScores:
    """All training images are held at once here, as the package reads them several times."""
    pictures = torch.cat([part.images for part in training_stretches(context, len(labels))]).to(images.device)
    answers = model.predictions(images)
    scored = torch.cat([pictures, copies]), torch.cat([labels, answers])
    both = ekfac_influence(model, (pictures, labels), scored, (images, answers))
    random = ekfac_influence(model, (pictures, shuffled), (pictures, shuffled), (images, answers))
    return TrainingScores(both[:, : len(labels)], both[:, len(labels) :].diagonal(), random)
