"""One perturbation for every image."""

from __future__ import annotations

import torch

from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.adversarial.universal_ascent import AscentSettings, capped_loss_gradient, mean_gradient_ascent
from audit.core.ascent import steepest_ascent
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.losses import LossName, loss_named
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1811.11304",
    needs="gradients",
    norms=(),
    threat="one perturbation for every image, in the ball of a norm",
    effort=("steps",),
)
def universal(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 150,
    images_a_step: PositiveInt = 64,
    relative_step: PositiveFloat = 0.1,
    decay: PositiveFloat = 0.9,
    loss: LossName = "ce",
) -> Images:
    """One perturbation in the ball, made on `batch` by ascent on its images' capped loss (Shafahi et al. 2020).

    Universal perturbations are Moosavi-Dezfooli et al.'s (2017, arXiv:1610.08401). Costs steps x images_a_step passes
    each way.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The ball that the perturbation stays in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        images_a_step: Images whose mean gradient one step follows.
        relative_step: Length of the first step as a share of eps.
        decay: Factor of the momentum at each step.
        loss: The loss to raise: "ce" (cross-entropy), "margin" or "dlr".

    Returns:
        The perturbation, float32 (1, C, H, W): add it to images it was not made on, clamp to [0, 1], and count what
        breaks.
    """
    grey = torch.full((1, *model.input_shape), 0.5, device=model.device)

    def move(delta: Images, direction: Images, rate: float) -> Images:
        step = threat.eps * relative_step * rate * steepest_ascent(threat.norm, direction, grey)
        return threat.project_perturbation(delta + step)

    gradient = capped_loss_gradient(model, batch, loss_named(loss, len(model.classes)), perturbed)
    ascent = AscentSettings(steps, images_a_step, decay)
    return mean_gradient_ascent(gradient, generators, torch.zeros_like(grey), ascent=ascent, move=move)


def perturbed(images: Images, delta: Images) -> Images:
    """The images with the perturbation added, in the box.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        delta: The perturbation, float32 (1, C, H, W).
    """
    return (images + delta).clamp(0, 1)
