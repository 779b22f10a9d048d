"""Primal-dual proximal gradient descent: the least sum of changes at which the image is misclassified (l1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audit.adversarial.minimum_norm import Nearest, adam_direction, adam_scale, in_windows
from audit.adversarial.targets import PositiveFloat, PositiveInt, ranked_targets
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images, Labels, Logits, PassCount
from audit.models.losses import Aim, is_adversarial_logits, margin_targeted, one_hot_goal
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
    passes=lambda settings, shape: PassCount(
        settings["steps"] + settings["targets"] * settings["scouting"] + 1,
        settings["steps"] + settings["targets"] * settings["scouting"],
    ),
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
    targets: PositiveInt = 9,
    scouting: PositiveInt = 30,
) -> Images:
    """Adam on the misclassification, shrinkage for the distance, and a weight between the two that each image adapts.

    Matyasko and Chau 2021: descent on the Lagrangian of "least norm such that the image is misclassified" for the
    image, ascent for its multiplier. The shrinkage is the proximal step of l1 in Adam's metric together with the box,
    which is exact here because both go value by value. Beyond the paper, a short descent towards each likely class
    chooses the class of the long one: the nearest boundary is not always the one that the gradient points to.

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
        targets: How many of the likeliest classes of the goal are tried.
        scouting: Steps towards each.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """

    schedule = _Schedule(step_size, last_step, weight, weight_rate)

    def search(origin: Images, goal: ClassMask) -> Images:
        labels = torch.zeros(len(origin), dtype=torch.int64, device=origin.device)
        classes = ranked_targets(model, Batch(origin, labels, ("",) * len(origin), goal), targets)
        nearest, chosen = Nearest.at(origin), classes[:, 0]
        for target in classes.unbind(1):
            before = nearest.distance
            _descend(model, origin, goal, target, nearest, schedule, scouting)
            chosen = torch.where(nearest.distance < before, target, chosen)
        _descend(model, origin, goal, chosen, nearest, schedule, steps)
        return nearest.images

    return threat.project(in_windows(model, batch, search), batch.images.to(model.device))


@dataclass(frozen=True)
class _Schedule:
    step_size: float
    last_step: float
    weight: float
    weight_rate: float


def _descend(
    model: ModelUnderTest,
    origin: Images,
    goal: ClassMask,
    target: Labels,
    nearest: Nearest,
    schedule: _Schedule,
    steps: int,
) -> None:
    """One descent towards a class of each example; what it finds is entered in `nearest`."""
    images, aim = origin, one_hot_goal(target, goal)
    mean, square = torch.zeros_like(origin), torch.zeros_like(origin)
    multiplier = torch.full((len(origin),), -math.log(schedule.weight), device=origin.device)
    averaged = multiplier.sigmoid()
    for number in range(steps):
        output = model.loss_gradient(images, aim, _missing)
        broken = is_adversarial_logits(output.logits, goal)
        nearest.see(images, broken, norms(images - origin, "l1"))
        gradient = output.gradient.nan_to_num(0.0, 0.0, 0.0)
        rate = schedule.step_size * schedule.last_step ** (number / steps)
        moved = images - origin - rate * adam_direction(gradient, mean, square, number)
        shrink = rate * ((1 - averaged) / averaged).view(-1, 1, 1, 1) / adam_scale(square, number)
        images = (origin + functional.softshrink(moved / shrink, 1.0) * shrink).clamp(0, 1)
        left = (steps - 1 - number) / max(1, steps - 1)
        rise = torch.where(broken, -1.0, 1.0) * schedule.weight_rate * (0.1 + 0.9 * left)
        multiplier = (multiplier + rise).clamp(-math.log(_LARGEST_RATIO), math.log(_LARGEST_RATIO))
        averaged = _AVERAGED * averaged + (1 - _AVERAGED) * multiplier.sigmoid()


def _missing(logits: Logits, aim: Aim) -> Tensor:
    """A smooth count of how far the image is from the target class."""
    return functional.softplus(-margin_targeted(logits, aim))
