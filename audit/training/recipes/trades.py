"""TRADES: clean accuracy weighed against stable predictions in the ball (Zhang et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.core.types import Images
from audit.training.inner_attack import frozen_eval, inner_pgd
from audit.training.step import Objective, StepOutput, TrainingStep, kl_divergence


@recipe(
    reference="arXiv:1901.08573",
    adversarial=True,
    passes=lambda settings, shape: PassCount(settings["steps"] + 3, settings["steps"] + 2),
)
def trades(
    net: nn.Module, step: TrainingStep, *, beta: float = 6.0, steps: int = 3, relative_step: float = 0.5
) -> Iterator[Objective]:
    """Descend the clean loss plus beta times the divergence of attacked from clean predictions.

    Zhang et al. 2019, Eq. 5 (arXiv:1901.08573), with the KL divergence as in the authors' code.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        beta: The factor on the divergence (1/lambda in the paper): 6 favours robustness, 1 clean accuracy.
        steps: Gradient steps of the inner attack.
        relative_step: Length of a step in units of eps.

    Yields:
        One objective.
    """
    adversarial = furthest_predictions(net, step, steps=steps, relative_step=relative_step)

    def objective() -> StepOutput:
        clean, attacked = net(step.images), net(adversarial)
        divergence = kl_divergence(clean, attacked)
        return StepOutput((step.loss(clean, step.labels) + beta * divergence).mean(), attacked.detach())

    yield objective


def furthest_predictions(net: nn.Module, step: TrainingStep, *, steps: int, relative_step: float) -> Images:
    """Ascend the divergence of predictions from the clean ones, which are computed once.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        steps: Gradient steps.
        relative_step: Length of a step in units of eps.

    Returns:
        The images reached, (N, C, H, W) in [0, 1].
    """
    threat = step.adversary
    with frozen_eval(net), torch.no_grad():
        clean = net(step.images)
    return inner_pgd(
        net,
        step.images,
        threat.random_start(step.images, step.generators),
        threat,
        lambda logits: kl_divergence(clean, logits),
        steps=steps,
        step_size=relative_step * threat.eps,
    )
