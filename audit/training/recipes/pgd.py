"""Adversarial training with projected gradient ascent."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.core.registry import recipe
from audit.training.inner_attack import inner_pgd
from audit.training.perturbation_init import Start, initial_perturbation, store_perturbation
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(reference="arXiv:1706.06083", adversarial=True)
def pgd(
    net: nn.Module, lesson: TrainingStep, *, steps: int = 3, relative_step: float = 0.5, start: Start = "random"
) -> Iterator[Objective]:
    """Descend the loss of the worst images a few steps of projected ascent find (Madry et al. 2018).

    `relative_step` is the step size in units of eps. With `start = "previous"` the ascent goes on from where it left
    the image in the epoch before (see `fgsm-rs`), and two steps do more than three from a random point.
    """
    threat = lesson.adversary
    adversarial = inner_pgd(
        net,
        lesson.images,
        initial_perturbation(lesson, start),
        threat,
        lambda logits: lesson.loss(logits, lesson.labels),
        steps=steps,
        step_size=relative_step * threat.eps,
    )
    store_perturbation(lesson, start, adversarial)
    yield lambda: classification_step(net, adversarial, lesson)
