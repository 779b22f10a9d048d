"""A net compiled for the time of its training. The audit that follows runs it as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from audit.core.errors import SetupError
from audit.core.types import Images


@contextmanager
def compiled(net: nn.Module, wanted: bool, images: Images) -> Iterator[None]:
    """Inside the block, when `wanted`, calls of `net` go through torch.compile; the net has run on `images` before.

    One forward and backward of `images`, prepared as the net takes them, shows at once whether that works here; the
    net's buffers and gradients are put back. Raises SetupError where it does not.
    """
    if not wanted:
        yield
        return
    net.compile()
    try:
        _try(net, images)
        yield
    finally:
        net._compiled_call_impl = None


def _try(net: nn.Module, images: Images) -> None:
    kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with torch.enable_grad():
            net(images).sum().backward()
    except Exception as fault:  # a compiler's failures have no common type
        first_line = (str(fault).strip() or type(fault).__name__).split("\n", 1)[0]
        raise SetupError(
            f"torch.compile does not work for this net on this machine ({first_line[:200]}). Set training.compile to "
            "false, or install a C++ compiler that torch finds."
        ) from fault
    finally:
        net.zero_grad(set_to_none=True)
        for name, buffer in net.named_buffers():
            buffer.copy_(kept[name])
