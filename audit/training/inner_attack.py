"""The adversary inside the training loop: short projected ascent on a net that is held still meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.threat import ThreatModel
from audit.core.types import Images, Logits


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
    """`steps` of steepest ascent on `loss(logits) -> (N,)` from `start`, kept in the ball around `origin`; without
    `clip` only in the box.

    `step_size` in the threat's own norm. Weights get no gradient; batch statistics and dropout are those of
    use, not of training, as TRADES does: the example is made against the net that will be attacked.
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
    """Logits, and the gradient of each example's own loss with respect to its image."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        logits = net(leaf)
        (gradient,) = torch.autograd.grad(loss(logits).sum(), leaf)
    return logits.detach(), gradient


@contextmanager
def frozen_eval(net: nn.Module) -> Iterator[None]:
    """The net in eval mode with frozen weights; train flags and gradients come back as they were."""
    flags = [(part, part.training) for part in net.modules()]
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        net.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, flag in flags:
            part.training = flag
        for parameter in learning:
            parameter.requires_grad_(True)
