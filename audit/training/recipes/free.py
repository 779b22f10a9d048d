"""Free adversarial training: one backward pass serves the weights and the adversary."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from audit.registry import recipe
from audit.training.lesson import Lesson, Objective, Outcome
from audit.types import Images


@recipe(reference="arXiv:1904.12843", adversarial=True)
def free(net: nn.Module, lesson: Lesson, *, replays: int = 4, relative_step: float = 1.0) -> Iterator[Objective]:
    """Learn each batch `replays` times, moving the images by the same gradient that moves the weights (Shafahi et al.
    2019). The perturbation lives on into the next batch. An epoch takes `replays` optimiser steps a batch, so
    give it that many fewer epochs.
    """
    threat = lesson.adversary
    images = _carried(lesson)
    for _ in range(replays):
        leaf = images.detach().requires_grad_(True)
        yield _objective(net, leaf, lesson)
        assert leaf.grad is not None
        step = relative_step * threat.eps * threat.steepest(leaf.grad)
        images = threat.project(leaf.detach() + step, lesson.images)
        lesson.memory["perturbation"] = images - lesson.images


def _carried(lesson: Lesson) -> Images:
    """This batch under the perturbation the last one ended with; a random one at the start."""
    last: Tensor | None = lesson.memory.get("perturbation")
    if last is None or last.shape != lesson.images.shape:
        return lesson.adversary.random_start(lesson.images, lesson.generators)
    return lesson.adversary.project(lesson.images + last, lesson.images)


def _objective(net: nn.Module, leaf: Images, lesson: Lesson) -> Objective:
    def objective() -> Outcome:
        logits = net(leaf)
        return Outcome(lesson.loss(logits, lesson.labels).mean(), logits.detach())

    return objective
