"""Adversarial training with one step from a random start."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.core.registry import recipe
from audit.training.inner_attack import inner_pgd
from audit.training.perturbation_init import Start, initial_perturbation, store_perturbation
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(reference="arXiv:2001.03994", adversarial=True, falls_back_to="pgd")
def fgsm_rs(
    net: nn.Module, lesson: TrainingStep, *, relative_step: float = 1.25, clip: bool = True, start: Start = "random"
) -> Iterator[Objective]:
    """One ascent step of 1.25 eps from a random point of the ball: "Fast is better than free" (Wong et al. 2020).

    Without `clip` the step may leave the ball, which makes the example stronger at no cost (N-FGSM, de Jorge et al.
    2022, arXiv:2202.01181). With `start = "previous"` it sets out from where it left the image in the epoch before,
    and a `relative_step` of 1 suits (arXiv:1912.11969, 2207.08859): nearly the examples of PGD at the price of one
    step, for two bytes a pixel of the training images.
    It can overfit to its own single step all at once; the loop watches for that on held-out images, goes
    back to the best checkpoint and continues with `pgd`.
    """
    threat = lesson.adversary
    adversarial = inner_pgd(
        net,
        lesson.images,
        initial_perturbation(lesson, start),
        threat,
        lambda logits: lesson.loss(logits, lesson.labels),
        steps=1,
        step_size=relative_step * threat.eps,
        clip=clip,
    )
    store_perturbation(lesson, start, adversarial)
    yield lambda: classification_step(net, adversarial, lesson)
