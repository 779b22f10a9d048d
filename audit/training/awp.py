"""Adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from audit.training.step import Objective


@contextmanager
def adversarial_weight_perturbation(
    net: nn.Module,
    objective: Objective,
    size: float,
    all_reduce_mean: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
) -> Iterator[None]:
    """Inside the block every weight matrix is moved up the gradient of the loss; after it, bitwise the same as before.

    Biases and norm scales (below 2-D) stay where they are.

    Args:
        net: The net.
        objective: The loss to ascend.
        size: The length of a matrix's move as a share of its own norm (gamma in the paper); 0 does nothing.
        all_reduce_mean: Replaces the gradients by their mean over all processes that train together.
    """
    weights = [p for p in net.parameters() if p.requires_grad and p.ndim > 1] if size else []
    if not weights:
        yield
        return
    gradients = torch.autograd.grad(objective().loss, weights)
    all_reduce_mean(gradients)
    before = [weight.detach().clone() for weight in weights]
    try:
        _perturb(weights, gradients, size)
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


@torch.no_grad()
def _perturb(weights: list[nn.Parameter], gradients: tuple[Tensor, ...], size: float) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.add_(gradient * (size * weight.norm() / (gradient.norm() + 1e-12)))
