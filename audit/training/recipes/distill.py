"""Knowledge distillation (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.step import Objective, StepOutput, TrainingStep, kl_divergence


@recipe(
    reference="arXiv:1503.02531",
    adversarial=False,
    teacher=True,
    passes=lambda settings, shape: PassCount(2, 1),
)
def distill(
    net: nn.Module, step: TrainingStep, *, temperature: float = 4.0, weight: float = 0.9
) -> Iterator[Objective]:
    """Descend the divergence from a teacher's softened predictions together with the classification loss.

    Hinton, Vinyals & Dean 2015, section 2 (arXiv:1503.02531).

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the teacher.
        temperature: Divides the logits of both nets, above 0.
        weight: The weight of the divergence, in [0, 1]; that of the classification loss is 1 minus it.

    Yields:
        One objective.
    """
    assert step.teacher is not None
    with torch.no_grad():
        soft_targets = step.teacher(step.images) / temperature

    def objective() -> StepOutput:
        logits = net(step.images)
        # Gradients of the soft loss scale with 1 / temperature**2 (section 2 of the paper).
        soft_loss = temperature**2 * kl_divergence(soft_targets, logits / temperature)
        loss = weight * soft_loss + (1 - weight) * step.loss(logits, step.labels)
        return StepOutput(loss.mean(), logits.detach())

    yield objective
