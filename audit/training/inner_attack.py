"""The inner maximisation of adversarial training: projected gradient ascent, and the perturbations it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.threat import ThreatModel
from audit.core.types import Images, Logits
from audit.models.grey_gradient import quick_grey_gradients
from audit.training.memory import fitting
from audit.training.step import TrainingStep

PerturbationStart = Literal["auto", "random", "previous"]

_PERTURBATIONS = "perturbations"
"""The key of `recipe_state` with the last perturbation of every training image, NaN where there was none."""


def inner_pgd(
    net: nn.Module,
    origin: Images,
    start: Images,
    threat: ThreatModel,
    loss: Callable[[Logits], Tensor],
    *,
    steps: int,
    step_size: float,
    clip: bool = True,
) -> Images:
    """Ascend a loss inside the ball around each image (Madry et al. 2018, Eq. 2.1: the inner maximisation).

    The weights get no gradient, and batch statistics and dropout are those of eval mode, as in TRADES: the examples
    are made against the net as it will be attacked.

    Args:
        net: Gives logits (N, classes) of images.
        origin: The centres of the balls, (N, C, H, W) in [0, 1].
        start: Where the ascent starts, (N, C, H, W) in [0, 1].
        threat: The norm and the radius eps of the balls.
        loss: `logits -> losses`, float (N,).
        steps: Number of gradient steps, at least 1.
        step_size: Length of a step in the threat's own norm.
        clip: Whether each step is projected onto the ball; without it, only into [0, 1].

    Returns:
        The images reached, (N, C, H, W) in [0, 1].
    """
    images = start
    with frozen_eval(net):
        for _ in range(steps):
            _, gradient = gradient_of(net, images, loss)
            images = projected_step(
                images, origin, gradient, threat, step_size, direction="unconstrained", project=clip
            )
    return images


def gradient_of(net: nn.Module, images: Images, loss: Callable[[Logits], Tensor]) -> tuple[Logits, Images]:
    """Compute the gradient of each example's own loss with respect to its image.

    Args:
        net: Gives logits (N, classes) of images.
        images: Images (N, C, H, W).
        loss: `logits -> losses`, float (N,).

    Returns:
        The logits (N, classes), without a graph, and the gradients (N, C, H, W).
    """

    def there_and_back() -> tuple[Logits, Images]:
        leaf = images.detach().requires_grad_(True)
        logits = net(leaf)
        (gradient,) = torch.autograd.grad(loss(logits).sum(), leaf)
        return logits.detach(), gradient

    with torch.enable_grad():
        return fitting(net, there_and_back)


@contextmanager
def frozen_eval(net: nn.Module, head: nn.Module | None = None) -> Iterator[None]:
    """Inside the block the net is in eval mode with frozen weights; train flags and `requires_grad` are restored.

    Args:
        net: The net.
        head: A layer of the net that goes on learning, in train mode; None for none.
    """
    flags = [(module, module.training) for module in net.modules()]
    of_head = set() if head is None else {id(parameter) for parameter in head.parameters()}
    learning = [p for p in net.parameters() if p.requires_grad and id(p) not in of_head]
    try:
        net.eval()
        if head is not None:
            head.train()
        for parameter in learning:
            parameter.requires_grad_(False)
        with quick_grey_gradients(net):
            yield
    finally:
        for module, flag in flags:
            module.training = flag
        for parameter in learning:
            parameter.requires_grad_(True)


def starts_at_previous(step: TrainingStep, start: PerturbationStart) -> bool:
    """Tell whether the inner maximisation starts where it left the image in the epoch before.

    Args:
        step: The batch.
        start: `auto` does so where the images are the same in each epoch and the memory holds a point for each.
    """
    return start == "previous" or (start == "auto" and step.keeps_perturbations)


def initial_perturbation(step: TrainingStep, start: PerturbationStart) -> Images:
    """Choose where the inner maximisation starts.

    Args:
        step: The batch.
        start: `random` for a random point of the ball; `previous` for the point that `store_perturbation` kept of the
            same image, so that single steps add up over the epochs (Zheng et al. 2020, arXiv:1912.11969; Jia et al.
            2022, arXiv:2207.08859), and a random one for an image not seen before; `auto` as `starts_at_previous`
            says.

    Returns:
        One point of the ball around each image, (N, C, H, W) in [0, 1].
    """
    if not starts_at_previous(step, start) or _PERTURBATIONS not in step.recipe_state:
        return step.adversary.random_start(step.images, step.generators)
    stored = step.recipe_state[_PERTURBATIONS]
    perturbations = stored[step.indices.to(stored.device)].to(step.images)
    stored_before = ~perturbations.isnan().flatten(1).any(1).view(-1, 1, 1, 1)
    random = step.adversary.random_start(step.images, step.generators)
    return torch.where(stored_before, step.adversary.project(step.images + perturbations, step.images), random)


def store_perturbation(step: TrainingStep, start: PerturbationStart, adversarial: Images) -> None:
    """Keep the perturbations in the recipe's state, float16 (total, C, H, W): half the memory of the images.

    Args:
        step: The batch.
        start: As `initial_perturbation` has it; nothing is kept for `random`.
        adversarial: The images reached, (N, C, H, W) in [0, 1].
    """
    if not starts_at_previous(step, start):
        return
    if _PERTURBATIONS not in step.recipe_state:
        shape = (step.total, *step.images.shape[1:])
        empty = torch.full(shape, torch.nan, dtype=torch.float16, device=step.images.device)
        step.recipe_state[_PERTURBATIONS] = empty
    stored = step.recipe_state[_PERTURBATIONS]
    stored[step.indices.to(stored.device)] = (adversarial - step.images).to(stored)
