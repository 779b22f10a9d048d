"""Whether gradients tell the truth about the function: masked gradients blind white-box attacks.

After Athalye et al. 2018 (arXiv:1802.00420). All is asked of the margin: cross-entropy has a scale of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest

STEP = 1e-3
"""Of a finite difference, in the pixel range: a quarter of an 8-bit level."""
TINY = 1e-4
"""Noise no camera records."""
ROUNDING = 2.0**-20
"""Of a logit, eight units in the last place: what a forward pass in float32 may be off by."""


@dataclass(frozen=True)
class LocalMargin:
    """The margin at interior points close to the images.

    Attributes:
        points: Where it was taken, float32 (N, C, H, W).
        goal: The predictions that count as misclassified, bool (N, classes).
        values: The margin, (N,).
        gradient: Of the margin, (N, C, H, W).
        size: The largest logit there, (N,).
    """

    points: Images
    goal: Tensor
    values: Tensor
    gradient: Images
    size: Tensor


def linearise(model: ModelUnderTest, batch: Batch, *, differentiable: bool = True) -> LocalMargin:
    """The margin and its gradient, a zero one where autograd gives none; points are kept `STEP` off the box's faces.

    Args:
        model: The model to look at.
        batch: N examples.
        differentiable: Whether autograd gives a gradient.
    """
    points = model.check_images(batch.images).clamp(STEP, 1 - STEP)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    if differentiable:
        output = model.loss_gradient(points, goal, margin)
        return LocalMargin(points, goal, output.losses, output.gradient, output.logits.abs().amax(1))
    logits = model.logits(points)
    return LocalMargin(points, goal, margin(logits, goal), torch.zeros_like(points), logits.abs().amax(1))


def linear_distance(local: LocalMargin) -> Tensor:
    """How far, in linf, the boundary is by the gradient alone, (N,): |margin| over the gradient's l1 norm.

    The box itself is 1 wide: a distance above 1 says that no picture at all is misclassified, and is believable only of
    a gradient that vanishes. Infinite where the gradient is zero.

    Args:
        local: What `linearise` gave.
    """
    steepness = precise(local.gradient).abs().flatten(1).sum(1)
    return precise(local.values).abs() / steepness


def derivative_error(model: ModelUnderTest, local: LocalMargin, generators: Generators, directions: int = 8) -> Tensor:
    """Autograd against central differences along random signs, (N,): 0 where they agree, 1 where unrelated.

    The norm of their differences, less what float32 rounding of the logits can make of it, over the sum of their norms,
    over all directions. Straight-through and detached gradients, and steps in the function, show here.

    Args:
        model: The model to look at.
        local: What `linearise` gave.
        generators: One random generator an example.
        directions: Random directions that are compared.
    """
    claimed, differences = [], []
    for k in range(directions):
        along = generators.fork(k).rademacher(*local.points.shape[1:])
        ahead, behind = (_margins(model, local, local.points + sign * STEP * along) for sign in (1, -1))
        differences.append((ahead - behind) / (2 * STEP))
        claimed.append((precise(local.gradient) * precise(along)).flatten(1).sum(1))
    slopes, secants = torch.stack(claimed, 1), torch.stack(differences, 1)
    return _disagreement(slopes, secants, ROUNDING * precise(local.size) / STEP)


def face_error(
    model: ModelUnderTest, batch: Batch, generators: Generators, *, differentiable: bool = True, directions: int = 4
) -> Tensor:
    """The gradient that attacks follow against one-sided differences at pixels of 0 and 1, (N,): 0 where they agree, 1
    where unrelated; 0 for an image without such pixels.

    A clamp at the entrance of a net has a kink exactly there, which central differences off the faces do not meet. Some
    of those pixels, drawn at random, move into the box together.

    Args:
        model: The model to look at.
        batch: N examples.
        generators: One random generator an example.
        differentiable: Whether autograd gives a gradient; a zero one is compared where it does not.
        directions: Random choices of pixels that are compared.
    """
    images, goal = model.check_images(batch.images), batch.target_mask(len(model.classes)).to(model.device)
    inward = (images == 0).to(images.dtype) - (images == 1).to(images.dtype)
    if differentiable:
        output = model.loss_gradient(images, goal, margin)
        gradient, logits = output.gradient, output.logits
    else:
        gradient, logits = torch.zeros_like(images), model.logits(images)
    before = precise(margin(model.logits(images), goal))
    slopes, secants = [], []
    for k in range(directions):
        along = inward * (generators.fork(k).uniform(*images.shape[1:]) < 0.5)
        after = precise(margin(model.logits(images + STEP * along), goal))
        secants.append((after - before) / STEP)
        slopes.append((precise(gradient) * precise(along)).flatten(1).sum(1))
    rounding = 2 * ROUNDING * precise(logits.abs().amax(1)) / STEP
    return _disagreement(torch.stack(slopes, 1), torch.stack(secants, 1), rounding)


def _disagreement(slopes: Tensor, secants: Tensor, rounding: Tensor) -> Tensor:
    """The norm of their differences, less `rounding` (N,) a direction, over the sum of their norms, (N,)."""
    size = slopes.norm(dim=1) + secants.norm(dim=1)
    excess = ((slopes - secants).norm(dim=1) - rounding * slopes.shape[1] ** 0.5).clamp(min=0)
    return torch.where(size > 0, excess / size, torch.zeros_like(size))


def noise_response(
    model: ModelUnderTest, local: LocalMargin, generators: Generators, draws: int = 5
) -> tuple[Tensor, Tensor]:
    """The margin under noise of `TINY`: its largest shift as a share of a typical margin, (N,); and whether nothing
    moves at all, bool (N,): a plateau, where no gradient can exist.

    Args:
        model: The model to look at.
        local: What `linearise` gave.
        generators: One random generator an example.
        draws: Noises that are tried.
    """
    clean_logits = model.logits(local.points)
    shift = torch.zeros_like(precise(local.values))
    flat = torch.ones_like(local.values, dtype=torch.bool)
    for k in range(draws):
        noise = TINY * generators.fork(k).rademacher(*local.points.shape[1:])
        noisy_logits = model.logits(local.points + noise)
        shift = torch.maximum(shift, precise(margin(noisy_logits, local.goal) - margin(clean_logits, local.goal)).abs())
        flat &= (noisy_logits == clean_logits).all(1)
    typical = precise(local.values).abs().nanmedian().clamp(min=1e-12)
    return (shift / typical).nan_to_num(nan=0.0), flat


def _margins(model: ModelUnderTest, local: LocalMargin, images: Images) -> Tensor:
    return precise(margin(model.logits(images), local.goal))
