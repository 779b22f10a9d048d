"""One perturbation for every image."""

from __future__ import annotations

import torch

from audit.attacks.shared_ascent import Ascent, ascend
from audit.attacks.steps import Count, Positive, uphill
from audit.models.under_test import ModelUnderTest
from audit.passes.losses import LossName, loss_named
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch, Images


@attack(
    reference="arXiv:1811.11304",
    needs="gradients",
    norms=(),
    threat="one perturbation for every image, in the ball of a norm",
)
def universal(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: Count = 150,
    images_a_step: Count = 64,
    relative_step: Positive = 0.1,
    decay: Positive = 0.9,
    loss: LossName = "ce",
) -> Images:
    """One perturbation in the ball, made on `batch` by ascent on its images' capped loss (Shafahi et al. 2020).

    Gives the perturbation, float32 (1, C, H, W): add it to images it was not made on, clamp to [0, 1], and count what
    breaks. Universal perturbations are Moosavi-Dezfooli et al.'s (2017, arXiv:1610.08401). Costs steps x
    images_a_step passes each way.
    """
    grey = torch.full((1, *model.input_shape), 0.5, device=model.device)

    def move(delta: Images, direction: Images, rate: float) -> Images:
        step = threat.eps * relative_step * rate * uphill(threat.norm, direction, grey)
        return threat.project_perturbation(delta + step)

    ascent = Ascent(steps, images_a_step, decay, loss_named(loss, len(model.classes)))
    return ascend(model, batch, generators, torch.zeros_like(grey), ascent=ascent, apply=perturbed, move=move)


def perturbed(images: Images, delta: Images) -> Images:
    """The images with the perturbation added, in the box."""
    return (images + delta).clamp(0, 1)
