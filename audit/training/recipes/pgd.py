"""Adversarial training with projected gradient ascent."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.registry import recipe
from audit.training.adversary import ascend
from audit.training.lesson import Lesson, Objective, classify


@recipe(reference="arXiv:1706.06083", adversarial=True)
def pgd(net: nn.Module, lesson: Lesson, *, steps: int = 3, relative_step: float = 0.5) -> Iterator[Objective]:
    """Descend the loss of the worst images a few steps of projected ascent find (Madry et al. 2018).

    `relative_step` is the step size in units of eps.
    """
    threat = lesson.adversary
    adversarial = ascend(
        net,
        lesson.images,
        threat.random_start(lesson.images, lesson.generators),
        threat,
        lambda logits: lesson.loss(logits, lesson.labels),
        steps=steps,
        step_size=relative_step * threat.eps,
    )
    yield lambda: classify(net, adversarial, lesson)
