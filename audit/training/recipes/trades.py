"""TRADES: accuracy on clean images and agreement around them, weighed against each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from audit.core.registry import recipe
from audit.core.types import Images
from audit.training.divergence import kl_divergence
from audit.training.inner_attack import frozen_eval, inner_pgd
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(reference="arXiv:1901.08573", adversarial=True)
def trades(
    net: nn.Module, lesson: TrainingStep, *, beta: float = 6.0, steps: int = 3, relative_step: float = 0.5
) -> Iterator[Objective]:
    """Descend the clean loss plus beta times the divergence of attacked from clean predictions (Zhang et al. 2019).

    `beta` 6 favours robustness, 1 clean accuracy; `relative_step` is in units of eps. The clean predictions
    the adversary moves away from are computed once.
    """
    adversarial = furthest_predictions(net, lesson, steps=steps, relative_step=relative_step)

    def objective() -> StepOutput:
        clean, attacked = net(lesson.images), net(adversarial)
        divergence = kl_divergence(clean.softmax(1), attacked)
        return StepOutput((lesson.loss(clean, lesson.labels) + beta * divergence).mean(), attacked.detach())

    yield objective


def furthest_predictions(net: nn.Module, lesson: TrainingStep, *, steps: int, relative_step: float) -> Images:
    """Images of the ball whose predictions diverge most from the clean ones."""
    threat = lesson.adversary
    with frozen_eval(net), torch.no_grad():
        clean = net(lesson.images).softmax(1)
    return inner_pgd(
        net,
        lesson.images,
        threat.random_start(lesson.images, lesson.generators),
        threat,
        lambda logits: kl_divergence(clean, logits),
        steps=steps,
        step_size=relative_step * threat.eps,
    )
