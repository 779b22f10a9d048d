"""Free adversarial training: one backward pass serves the weights and the adversary."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.registry import recipe
from audit.core.types import Images
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(reference="arXiv:1904.12843", adversarial=True)
def free(net: nn.Module, lesson: TrainingStep, *, replays: int = 4, relative_step: float = 1.0) -> Iterator[Objective]:
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
        images = projected_step(
            leaf.detach(), lesson.images, leaf.grad, threat, relative_step * threat.eps, direction="unconstrained"
        )
        lesson.memory["perturbation"] = images - lesson.images


def _carried(lesson: TrainingStep) -> Images:
    """This batch under the perturbation the last one ended with; a random one at the start."""
    last: Tensor | None = lesson.memory.get("perturbation")
    if last is None or last.shape != lesson.images.shape:
        return lesson.adversary.random_start(lesson.images, lesson.generators)
    return lesson.adversary.project(lesson.images + last, lesson.images)


def _objective(net: nn.Module, leaf: Images, lesson: TrainingStep) -> Objective:
    def objective() -> StepOutput:
        logits = net(leaf)
        return StepOutput(lesson.loss(logits, lesson.labels).mean(), logits.detach())

    return objective
