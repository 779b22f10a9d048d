"""One change for many images: ascent on what it does to all of them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Batch, ClassMask, Images, Logits
from audit.models.under_test import Loss, ModelUnderTest

Ascends = Callable[[Tensor, Tensor], Tensor]
"""`(indices, change) -> gradient`: of the mean over these images of what is to be raised, of the shape of `change`."""
CAP = 5.0
"""The loss from which an image no longer pulls, else those broken long ago would draw all of the change (the clipped
loss of Shafahi et al. 2020, arXiv:1811.11304, eq. 3)."""


@dataclass(frozen=True)
class AscentSettings:
    """How long and on how much. The step shrinks to nothing along a half cosine.

    Attributes:
        steps: Steps along the gradient.
        images_a_step: Images whose mean gradient one step follows.
        decay: Factor of the momentum at each step.
    """

    steps: int
    images_a_step: int
    decay: float


def mean_gradient_ascent(
    gradient: Ascends,
    draws: Generators,
    initial: Tensor,
    *,
    ascent: AscentSettings,
    move: Callable[[Tensor, Tensor, float], Tensor],
) -> Tensor:
    """One change for all images, made by ascent on a mean over them.

    Images come in an order drawn anew each time through, by their own generators: the batch's order does not matter.

    Args:
        gradient: Gives the gradient to the change at some of the images.
        draws: One random generator an image that the change is made on.
        initial: The change before the first step.
        ascent: How the steps are taken.
        move: `move(change, direction, rate)` follows the gradients, each step's of l1 norm 1 and summed with the
            momentum, at a rate that falls from 1 to 0.

    Returns:
        The change after the last step, of the shape of `initial`.
    """
    change, momentum = initial, torch.zeros_like(initial)
    if len(draws) == 0:
        return change
    for step in range(ascent.steps):
        indices = _turn(draws, step, min(ascent.images_a_step, len(draws))).to(initial.device)
        mean = gradient(indices, change)
        momentum = ascent.decay * momentum + mean / mean.abs().sum().clamp(min=1e-30)
        change = move(change, momentum, _rate(step, ascent.steps))
    return change


def capped_loss_gradient(
    model: ModelUnderTest, made_on: Batch, loss: Loss, apply: Callable[[Images, Tensor], Images]
) -> Ascends:
    """What raises the capped loss of a classifier.

    Args:
        model: The model under attack.
        made_on: The examples that the change is made on.
        loss: The loss to raise, one value an example.
        apply: `apply(images, change)` puts the change on images, each pixel of it on the same pixel.
    """
    images, goal = model.check_images(made_on.images), made_on.target_mask(len(model.classes)).to(model.device)

    def capped(logits: Logits, target: ClassMask) -> Tensor:
        return loss(logits, target).clamp(max=CAP)

    def gradient(indices: Tensor, change: Tensor) -> Tensor:
        output = model.loss_gradient(apply(images[indices], change), goal[indices], capped)
        return output.gradient.nan_to_num(0.0, 0.0, 0.0).mean(0, keepdim=True)

    return gradient


def _turn(draws: Generators, step: int, size: int) -> Tensor:
    """The images of one step: the next `size` of a random order that is drawn anew when used up, int64."""
    turns = len(draws) // size
    keys = draws.fork(step // turns).uniform(1).flatten()
    position = step % turns
    return keys.argsort(stable=True)[position * size : (position + 1) * size]


def _rate(step: int, steps: int) -> float:
    return float(0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / steps, device="cpu")))
