"""A forward watched from outside: which layer runs, and which operations of ATen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

RunningLayers: TypeAlias = list[tuple[str, nn.Module]]
"""The name and the layer of every forward that runs, outermost first."""
OnOutput: TypeAlias = Callable[[str, Any], Any]
"""`(layer, output) -> output`, or None to leave it."""


class OperationWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gets every operation below autograd, whether a module, a function or a method makes it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: the compiler is not at work here, and to be kept out it would be imported first, which takes seconds."""
        return False

    def __init__(self) -> None:
        """Nothing watched yet."""
        super().__init__()  # type: ignore[no-untyped-call]


@contextmanager
def running_layers(net: nn.Module, on_output: OnOutput | None = None) -> Iterator[RunningLayers]:
    """Within the context a list that grows and shrinks as the layers of a net run; the net itself is not in it.

    Args:
        net: The net; layers of TorchScript take no hooks, and are left out.
        on_output: Called when a layer has run.
    """
    running: RunningLayers = []

    def enter(name: str) -> Callable[..., None]:
        return lambda layer, *_: running.append((name, layer))

    def leave(_: nn.Module, __: Any, output: Any) -> Any:
        name, _ = running.pop()
        return None if on_output is None else on_output(name, output)

    handles = []
    for name, layer in net.named_modules():
        if name and not isinstance(layer, torch.jit.ScriptModule):
            handles += [layer.register_forward_pre_hook(enter(name)), layer.register_forward_hook(leave)]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()
