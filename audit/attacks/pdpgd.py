"""Primal-dual proximal gradient descent: the least sum of changes at which the image is misclassified (l1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from audit.adversarial.minimum_norm import Nearest, adam_direction, adam_scale, in_windows
from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images, Logits, PassCount
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest

_LARGEST_RATIO = 1e6
"""Of the two weights, either way."""
_AVERAGED = 0.9
"""Share of the weights' running mean that stays at a step."""


@attack(
    reference="arXiv:2106.01538",
    needs="gradients",
    norms=("l1",),
    minimal=True,
    passes=lambda settings, shape: PassCount(settings["steps"], settings["steps"]),
    effort=("steps",),
)
def pdpgd(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 500,
    step_size: PositiveFloat = 0.1,
    last_step: PositiveFloat = 0.01,
    weight: PositiveFloat = 0.01,
    weight_rate: PositiveFloat = 0.1,
) -> Images:
    """Adam on the misclassification, shrinkage for the distance, and a weight between the two that each image adapts.

    Matyasko and Chau 2021: descent on the Lagrangian of "least norm such that the image is misclassified" for the
    image, ascent for its multiplier. The shrinkage is the proximal step of l1 in Adam's metric together with the box,
    which is exact here because both go value by value.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The ball that proposals stay in.
        generators: Unused: nothing is drawn.
        steps: Gradient steps.
        step_size: Of the first step, in pixel units.
        last_step: The last step's share of the first; between them the step falls exponentially.
        weight: Of the distance against the misclassification, at first.
        weight_rate: By which the weight's logarithm moves at the first step; a tenth of that at the last.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """

    def search(origin: Images, goal: ClassMask) -> Images:
        images = origin
        mean, square = torch.zeros_like(origin), torch.zeros_like(origin)
        multiplier = torch.full((len(origin),), -math.log(weight), device=origin.device)
        averaged, nearest = multiplier.sigmoid(), Nearest.at(origin)
        for number in range(steps):
            output = model.loss_gradient(images, goal, _missing)
            broken = is_adversarial_logits(output.logits, goal)
            nearest.see(images, broken, norms(images - origin, "l1"))
            gradient = output.gradient.nan_to_num(0.0, 0.0, 0.0)
            rate = step_size * last_step ** (number / steps)
            moved = images - origin - rate * adam_direction(gradient, mean, square, number)
            ratio = ((1 - averaged) / averaged).view(-1, 1, 1, 1)
            shrunk = functional.softshrink(moved / (shrink := rate * ratio / adam_scale(square, number)), 1.0) * shrink
            images = (origin + shrunk).clamp(0, 1)
            left = (steps - 1 - number) / max(1, steps - 1)
            rise = torch.where(broken, -1.0, 1.0) * weight_rate * (0.1 + 0.9 * left)
            multiplier = (multiplier + rise).clamp(-math.log(_LARGEST_RATIO), math.log(_LARGEST_RATIO))
            averaged = _AVERAGED * averaged + (1 - _AVERAGED) * multiplier.sigmoid()
        return nearest.images

    return threat.project(in_windows(model, batch, search), batch.images.to(model.device))


def _missing(logits: Logits, goal: ClassMask) -> Tensor:
    """A smooth count of how far the image is from being misclassified."""
    return functional.softplus(-margin(logits, goal))
