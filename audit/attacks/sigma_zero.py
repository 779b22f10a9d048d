"""Sigma-zero: the fewest values to change, by a smooth count of them and a threshold that adapts (l0)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audit.adversarial.minimum_norm import Nearest, adam_direction, in_windows
from audit.adversarial.targets import NonNegativeInt, PositiveFloat, PositiveInt
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images, Logits, PassCount
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:2402.01879",
    needs="gradients",
    norms=("l0",),
    minimal=True,
    passes=lambda settings, shape: PassCount(settings["steps"] + settings["trials"] + 2, settings["steps"] + 1),
    effort=("steps",),
)
def sigma_zero(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 1000,
    step_size: PositiveFloat = 1.0,
    smoothness: PositiveFloat = 1e-3,
    threshold: PositiveFloat = 0.3,
    threshold_rate: PositiveFloat = 0.01,
    trials: NonNegativeInt = 40,
) -> Images:
    """Adam on the margin plus a smooth count of the changed values; small changes are set to zero after each step.

    Algorithm 1 of Cinà et al. 2025. The count is the mean of d^2 / (d^2 + smoothness) over the changes d, equation 4;
    what lies below the threshold is dropped, and the threshold rises while the image is misclassified and falls while
    it is not. The step falls along a cosine to a tenth. At the end, beyond the paper, the changed values of the best
    image are moved to the faces of the box along the gradient where that still breaks it (a change costs the same
    whatever its size), and restored one by one where it breaks without them.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: How many values may change.
        generators: Unused: nothing is drawn.
        steps: Gradient steps.
        step_size: Of the first step, in pixel units; the gradient is scaled to a largest value of 1 before.
        smoothness: Of the count (sigma): the smaller, the sharper.
        threshold: Below which a change is dropped at first, in pixel units.
        threshold_rate: By which it moves, times the step's size.
        trials: Values that are tried to be restored at the end, those that matter least first.

    Returns:
        Proposals, float32 (N, C, H, W): the misclassified image with the fewest changes, of which the largest stay
        where the ball holds fewer; the clean image where none was found.
    """

    def search(origin: Images, goal: ClassMask) -> Images:
        change = torch.zeros_like(origin)
        mean, square = torch.zeros_like(origin), torch.zeros_like(origin)
        below = torch.full((len(origin), 1, 1, 1), threshold, device=origin.device)
        nearest = Nearest.at(origin)
        for number in range(steps):
            images = torch.where(change == 0, origin, origin + change)
            output = model.loss_gradient(images, goal, _missing_margin)
            broken = is_adversarial_logits(output.logits, goal)
            nearest.see(images, broken, (change != 0).flatten(1).sum(1).to(origin.dtype))
            count = 2 * smoothness * change / (change.square() + smoothness).square() / change[0].numel()
            gradient = count - output.gradient.nan_to_num(0.0, 0.0, 0.0)
            gradient = gradient / gradient.flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
            rate = step_size * (0.1 + 0.45 * (1 + math.cos(math.pi * number / steps)))
            moved = origin + change - rate * adam_direction(gradient, mean, square, number)
            change = moved.clamp(0, 1) - origin
            below = (below + torch.where(broken, 1.0, -1.0).view(-1, 1, 1, 1) * threshold_rate * rate).clamp(0, 1)
            change = change.masked_fill(change.abs() < below, 0.0)
        return _pruned(model, origin, goal, nearest.images, trials) if trials else nearest.images

    return threat.project(in_windows(model, batch, search), batch.images.to(model.device))


def _pruned(model: ModelUnderTest, origin: Images, goal: ClassMask, images: Images, trials: int) -> Images:
    """Misclassified images with fewer changes, by trying; what is not misclassified stays as it is."""
    shape, changed = images.shape, images != origin
    output = model.loss_gradient(images, goal, margin)
    gradient = output.gradient.nan_to_num(0.0, 0.0, 0.0)
    unbroken = ~is_adversarial_logits(output.logits, goal).view(-1, 1, 1, 1)
    faces = torch.where(changed & (gradient != 0), (gradient > 0).to(images.dtype), images)
    images = torch.where(unbroken | ~_breaks(model, faces, goal), images, faces)
    effect = (gradient * (images - origin)).abs().masked_fill(images == origin, torch.inf).flatten(1)
    order, clean, flat = effect.argsort(dim=1, stable=True), origin.flatten(1), images.flatten(1)
    for number in range(min(trials, flat.shape[1])):
        place = order[:, number : number + 1]
        fewer = flat.scatter(1, place, clean.gather(1, place))
        flat = torch.where(_breaks(model, fewer.view(shape), goal).flatten(1), fewer, flat)
    return torch.where(unbroken, images, flat.view(shape))


def _breaks(model: ModelUnderTest, images: Images, goal: ClassMask) -> Tensor:
    return is_adversarial_logits(model.logits(images), goal).view(-1, 1, 1, 1)


def _missing_margin(logits: Logits, goal: ClassMask) -> Tensor:
    """The margin as long as the image is not misclassified, else 0."""
    return margin(logits, goal).clamp(max=0)
