"""Dropout before the last layer of any net, in training only: its structure and its names stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.functional import dropout

from audit.core.errors import UsageError


@contextmanager
def dropped_inputs(net: nn.Module, share: float) -> Iterator[None]:
    """Inside the block, the last linear layer of `net` loses `share` of its inputs while it is in train mode.

    Raises UsageError when the net has no linear layer and `share` is not 0.
    """
    if not share:
        yield
        return
    layers = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise UsageError(f"Dropout needs a linear layer, and {type(net).__name__} has none; set training.dropout to 0.")

    def drop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], share, layer.training), *inputs[1:])

    hook = layers[-1].register_forward_pre_hook(drop)
    try:
        yield
    finally:
        hook.remove()
