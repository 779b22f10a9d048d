"""Fast adversarial training: FGSM from a random start (Wong et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.core.ascent import projected_step
from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.inner_attack import (
    PerturbationStart,
    initial_perturbation,
    inner_pgd,
    starts_at_previous,
    store_perturbation,
)
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(
    reference="arXiv:2001.03994",
    adversarial=True,
    falls_back_to="pgd",
    passes=lambda settings, shape: PassCount(2, 2),
)
def fgsm_rs(
    net: nn.Module,
    step: TrainingStep,
    *,
    relative_step: float | None = None,
    clip: bool = True,
    start: PerturbationStart = "auto",
    reused_step: float = 0.5,
) -> Iterator[Objective]:
    """Descend the loss of images moved by one gradient step from a random point of the ball.

    Wong, Rice & Kolter 2020, Algorithm 3 (arXiv:2001.03994). It can overfit to its own single step within an epoch
    (section 5); the loop watches for that on held-out images, goes back to the best epoch and continues with `pgd`.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        relative_step: Length of the step in units of eps; 1.25 from a random point, as published, and 1 from the
            previous one where it is None.
        clip: Whether the step is projected onto the ball; without it, the examples are stronger at no cost (N-FGSM,
            de Jorge et al. 2022, arXiv:2202.01181).
        start: `previous` starts where the step left the same image in the epoch before (Zheng et al. 2020,
            arXiv:1912.11969; Jia et al. 2022, arXiv:2207.08859): nearly the examples of PGD at the price of one step,
            for two bytes a pixel of the training images. `auto` does so unless the images are augmented or the
            memory is short, and starts at `random` as published else.
        reused_step: From the previous point on, the length of a second step in units of eps, by the gradient that the
            backward pass of the weights gives besides (Shafahi et al. 2019, arXiv:1904.12843): it moves where the
            next epoch starts, for a tenth more time and no pass; 0 for none.

    Yields:
        One objective.
    """
    threat, previous = step.adversary, starts_at_previous(step, start)
    if relative_step is None:
        relative_step = 1.0 if previous else 1.25
    adversarial = inner_pgd(
        net,
        step.images,
        initial_perturbation(step, start),
        threat,
        lambda logits: step.loss(logits, step.labels),
        steps=1,
        step_size=relative_step * threat.eps,
        clip=clip,
    )
    if not (previous and reused_step):
        store_perturbation(step, start, adversarial)
        yield lambda: classification_step(net, adversarial, step)
        return
    leaf = adversarial.requires_grad_(True)
    yield lambda: classification_step(net, leaf, step)
    assert leaf.grad is not None
    size = reused_step * threat.eps
    following = projected_step(leaf.detach(), step.images, leaf.grad, threat, size, direction="unconstrained")
    store_perturbation(step, start, following)
