"""Adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def adversarial_weight_perturbation(
    net: nn.Module, size: float, gradients_of: Callable[[Sequence[Tensor]], Sequence[Tensor]]
) -> Iterator[None]:
    """Inside the block every weight matrix is moved up the gradient of the loss; after it, bitwise the same as before.

    Biases and norm scales (below 2-D) stay where they are.

    Args:
        net: The net.
        size: The length of a matrix's move as a share of its own norm (gamma in the paper); 0 does nothing.
        gradients_of: Gives of weights the gradients of the loss to ascend.
    """
    weights = [p for p in net.parameters() if p.requires_grad and p.ndim > 1] if size else []
    if not weights:
        yield
        return
    gradients = gradients_of(weights)
    before = [weight.detach().clone() for weight in weights]
    try:
        _perturb(weights, gradients, size)
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


@torch.no_grad()
def _perturb(weights: list[nn.Parameter], gradients: Sequence[Tensor], size: float) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.add_(gradient * (size * weight.norm() / (gradient.norm() + 1e-12)))
