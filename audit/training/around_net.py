"""Blocks around a net in training: dropout before its head, and torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from audit.core.errors import SetupError, UsageError
from audit.core.types import Images
from audit.models.output_entries import tensors_in


@contextmanager
def dropout_before_head(net: nn.Module, probability: float) -> Iterator[None]:
    """Inside the block, dropout acts on the inputs of the last linear layer of `net` while that is in train mode.

    The structure of the net and the names of its weights stay as they are.

    Args:
        net: The net.
        probability: The share of inputs set to 0, in [0, 1).

    Raises:
        UsageError: When the net has no linear layer and `probability` is not 0.
    """
    if not probability:
        yield
        return
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UsageError(f"Dropout needs a linear layer, and {type(net).__name__} has none; set training.dropout to 0.")

    def drop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], probability, layer.training), *inputs[1:])

    hook = layers[-1].register_forward_pre_hook(drop)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def compiled(net: nn.Module, enabled: bool, images: Images) -> Iterator[None]:
    """Inside the block, calls of `net` go through torch.compile.

    One forward and backward pass of `images` shows at once whether that works on this machine; the net's buffers and
    gradients are put back after it.

    Args:
        net: The net, which has run on `images` before.
        enabled: Whether to compile at all.
        images: A few images as the net takes them: normalised, (N, C, H, W).

    Raises:
        SetupError: When torch.compile fails.
    """
    if not enabled:
        yield
        return
    net.compile()
    try:
        _try_passes(net, images)
        yield
    finally:
        net._compiled_call_impl = None


def _try_passes(net: nn.Module, images: Images) -> None:
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with torch.enable_grad():
            torch.stack([tensor.sum() for tensor in tensors_in(net(images)).values()]).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as fault:  # a compiler's failures have no common type
        first_line = (str(fault).strip() or type(fault).__name__).split("\n", 1)[0]
        raise SetupError(
            f"torch.compile does not work for this net on this machine ({first_line[:200]}). Set training.compile to "
            "false, or install a C++ compiler that torch finds."
        ) from fault
    finally:
        net.zero_grad(set_to_none=True)
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
