"""Knowledge distillation: a small net learns what a large one thinks of every class."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from audit.core.registry import recipe
from audit.training.divergence import kl_divergence
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(reference="arXiv:1503.02531", adversarial=False, teacher=True)
def distill(
    net: nn.Module, lesson: TrainingStep, *, temperature: float = 4.0, weight: float = 0.9
) -> Iterator[Objective]:
    """Descend `weight` times the divergence from the teacher's softened predictions plus the rest of the
    classification loss (Hinton et al. 2015). Both logits are divided by `temperature`; its square keeps the scale."""
    assert lesson.teacher is not None
    with torch.no_grad():
        told = (lesson.teacher(lesson.images) / temperature).softmax(1)

    def objective() -> StepOutput:
        logits = net(lesson.images)
        soft = temperature**2 * kl_divergence(told, logits / temperature)
        return StepOutput((weight * soft + (1 - weight) * lesson.loss(logits, lesson.labels)).mean(), logits.detach())

    yield objective
