"""Adversarial weight perturbation: descend the loss at the worst weights nearby (Wu et al. 2020, arXiv:2004.05884)."""

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
    average: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
) -> Iterator[None]:
    """`net` with every weight matrix moved by `size` times its own norm along the loss gradient; bitwise the same
    weights again after the block. Biases and norm scales stay; `size` 0 does nothing. `average` makes the
    gradients those of all processes that train together."""
    weights = [p for p in net.parameters() if p.requires_grad and p.ndim > 1] if size else []
    if not weights:
        yield
        return
    gradients = torch.autograd.grad(objective().loss, weights)
    average(gradients)
    own = [weight.detach().clone() for weight in weights]
    try:
        _move(weights, gradients, size)
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, own, strict=True):
                weight.copy_(value)


@torch.no_grad()
def _move(weights: list[nn.Parameter], gradients: tuple[Tensor, ...], size: float) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.add_(gradient * (size * weight.norm() / (gradient.norm() + 1e-12)))
