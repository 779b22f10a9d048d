"""An exponential moving average of the weights (Polyak averaging; arXiv:2010.03593 for robust nets)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ModelEma:
    """The moving average of `net`'s weights with `decay`; buffers are copied as they are.

    Early on the decay is smaller, (1 + n) / (10 + n) after n steps, so that the random start is soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take one step towards the weights of `net`."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def restore(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint."""
        self.steps = steps
        for name, value in weights.items():
            self.weights[name].copy_(value)


@contextmanager
def with_weights(net: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """`net` carrying `weights` inside the block, its own again after it; None leaves it as it is."""
    if weights is None:
        yield
        return
    own = {name: value.detach().clone() for name, value in net.state_dict().items()}
    try:
        net.load_state_dict(weights)
        yield
    finally:
        net.load_state_dict(own)
