"""Optimisers by name, the penalties on weights, and the clip on gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from audit.config import TrainingConfig

_KINDS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
_FUSED = {"adam", "adamw", "sgd"}


def make_optimizer(groups: Iterable[Mapping[str, Any]], settings: TrainingConfig) -> Optimizer:
    """The optimiser of `settings` over parameter groups `{"params", "factor"}`; `factor` scales the group's rate."""
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer in ("sgd", "rmsprop"):
        options["momentum"] = settings.momentum
    if settings.optimizer in _FUSED:
        options["fused"] = True
    return _KINDS[settings.optimizer]([dict(group) for group in groups], **options)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def penalty(net: nn.Module, *, l1: float, l2: float) -> Tensor:
    """l1 times the sum of absolute weights plus l2 times the sum of squares; biases and norm scales are spared."""
    total = torch.zeros((), device=next(net.parameters()).device)
    weights = net.parameters() if l1 or l2 else ()
    for weight in (w for w in weights if w.requires_grad and w.ndim > 1):
        total = total + l1 * weight.abs().sum() + l2 * weight.square().sum()
    return total


def clip(net: nn.Module, maximum: float | None) -> None:
    """Scale the gradient down to a total l2 norm of at most `maximum`, without asking the device how large it was."""
    if maximum is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), maximum, error_if_nonfinite=False)
