"""Free adversarial training (Shafahi et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.core.types import Images
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(
    reference="arXiv:1904.12843",
    adversarial=True,
    passes=lambda settings, shape: PassCount(settings["replays"], settings["replays"]),
)
def free(net: nn.Module, step: TrainingStep, *, replays: int = 4, relative_step: float = 1.0) -> Iterator[Objective]:
    """Learn each batch several times, with one backward pass for both the weights and the perturbation.

    Shafahi et al. 2019, Algorithm 1 (arXiv:1904.12843). An epoch takes `replays` optimiser steps a batch, so give it
    that many fewer epochs.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        replays: How often each batch is learnt (m in the paper), at least 1.
        relative_step: Length of the perturbation's step in units of eps.

    Yields:
        One objective a replay; its images must have got their gradient before the next is asked for.
    """
    threat = step.adversary
    images = _perturbed(step)
    for _ in range(replays):
        leaf = images.detach().requires_grad_(True)
        yield _objective(net, leaf, step)
        assert leaf.grad is not None
        size = relative_step * threat.eps
        images = projected_step(leaf.detach(), step.images, leaf.grad, threat, size, direction="unconstrained")
        step.recipe_state["perturbation"] = images - step.images


def _perturbed(step: TrainingStep) -> Images:
    """The batch under the perturbation that the last batch ended with; a random one at the start."""
    perturbation: Tensor | None = step.recipe_state.get("perturbation")
    if perturbation is None or perturbation.shape != step.images.shape:
        return step.adversary.random_start(step.images, step.generators)
    return step.adversary.project(step.images + perturbation, step.images)


def _objective(net: nn.Module, leaf: Images, step: TrainingStep) -> Objective:
    def objective() -> StepOutput:
        leaf.grad = None  # of an attempt that ran out of memory
        logits = net(leaf)
        return StepOutput(step.loss(logits, step.labels).mean(), logits.detach())

    return objective
