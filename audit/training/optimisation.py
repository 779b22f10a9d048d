"""Optimisers by name, learning-rate schedules, penalties on weights, gradient clipping and the average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from audit.config import Schedule, TrainingConfig
from audit.models.load_state import load_state
from audit.training.muon import Muon

_OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "muon": Muon,
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
_FUSED = {"adam", "adamw", "sgd"}

WARM_UP = 0.25
"""Share of the training in which the one-cycle schedule rises."""
ENDS_AT_ZERO: tuple[Schedule, ...] = ("one-cycle", "cosine")
"""Schedules whose learning rate falls to 0."""
_INITIAL_FACTOR = 0.04
_STEPS = ((0.5, 1.0), (0.75, 0.1), (math.inf, 0.01))


def make_optimizer(groups: Iterable[Mapping[str, Any]], settings: TrainingConfig) -> Optimizer:
    """Make the optimiser that the settings name.

    Args:
        groups: Parameter groups, each with "params" and "factor", which scales the group's learning rate, and with
            "matrices" as `Muon` reads it.
        settings: Name of the optimiser, learning rate, weight decay and momentum.

    Returns:
        The optimiser, fused where torch has a fused one.
    """
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer in ("sgd", "rmsprop"):
        options["momentum"] = settings.momentum
    groups = [{**group, "params": list(group["params"])} for group in groups]
    real = all(parameter.is_floating_point() for group in groups for parameter in group["params"])
    if settings.optimizer in _FUSED and real:  # no fused step knows complex numbers
        options["fused"] = True
    return _OPTIMIZERS[settings.optimizer](groups, **options)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group to `rate` times the group's factor.

    Args:
        optimizer: An optimiser of `make_optimizer`.
        rate: The learning rate.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def rate_factor(schedule: Schedule, progress: float) -> float:
    """Compute the factor on the peak learning rate.

    Args:
        schedule: `one-cycle` rises linearly over the first quarter and falls by a cosine to 0 (Smith 2018,
            arXiv:1803.09820); `cosine` only falls (Loshchilov & Hutter 2017, arXiv:1608.03983); `step` is 1, then 0.1
            from the half and 0.01 from three quarters (as Rice et al. 2020, arXiv:2002.11569); `constant` is 1.
        progress: The share of all steps that is done, in [0, 1].

    Returns:
        The factor, in [0, 1].
    """
    if schedule == "cosine":
        return _cosine(progress)
    if schedule == "step":
        return next(factor for end, factor in _STEPS if progress < end)
    if schedule == "one-cycle":
        if progress < WARM_UP:
            return _INITIAL_FACTOR + (1 - _INITIAL_FACTOR) * progress / WARM_UP
        return _cosine((progress - WARM_UP) / (1 - WARM_UP))
    return 1.0


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def weight_penalty(net: nn.Module, *, l1: float, l2: float) -> Tensor:
    """Compute the penalty on the weights of `net` that can learn; biases and norm scales (below 2-D) are left out.

    Args:
        net: The net.
        l1: Factor on the sum of absolute weights.
        l2: Factor on the sum of squared weights.

    Returns:
        The penalty, a scalar with a graph.
    """
    total = torch.zeros((), device=next(net.parameters()).device)
    weights = net.parameters() if l1 or l2 else ()
    for weight in (w for w in weights if w.requires_grad and w.ndim > 1):
        total = total + l1 * weight.abs().sum() + l2 * weight.square().sum()
    return total


def clip_gradient(net: nn.Module, maximum: float | None) -> None:
    """Scale the gradient down to a total l2 norm of at most `maximum`; the device is not waited for.

    Args:
        net: The net, after a backward pass.
        maximum: The largest norm, above 0; None leaves the gradient as it is.
    """
    if maximum is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), maximum, error_if_nonfinite=False)


class ModelEma:
    """An exponential moving average of the state dict of a net (for robust nets: Gowal et al. 2020, arXiv:2010.03593).

    After n steps the decay is at most (1 + n) / (10 + n), so that the random start is soon forgotten. Tensors that are
    not floating point, such as counters of batches, are copied.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Start from the present weights of `net`.

        Args:
            net: The net.
            decay: The factor on the old average in each step, in [0, 1).
        """
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take one step towards the weights of `net`.

        Args:
            net: A net with the state dict's names and shapes.
        """
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def restore(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Replace the average.

        Args:
            weights: A state dict of the same names and shapes.
            steps: How many steps it has taken.
        """
        self.steps = steps
        for name, value in weights.items():
            self.weights[name].copy_(value)


@contextmanager
def with_weights(net: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Inside the block `net` carries other weights; after it, bitwise the same ones as before.

    Args:
        net: The net.
        weights: A state dict for it; None leaves it as it is.
    """
    if weights is None:
        yield
        return
    before = {name: value.detach().clone() for name, value in net.state_dict().items()}
    try:
        load_state(net, weights)
        yield
    finally:
        load_state(net, before)
