"""What a model costs: its size, and the time of a forward beside another model."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import save as pack
from torch import Tensor, nn

_RUNS = 15


@dataclass(frozen=True)
class Footprint:
    """The size of a model, the same on every machine.

    Attributes:
        parameters: Number of parameters.
        nonzero: Number of parameters that are not 0.
        bytes: Size of the stored weights.
        compressed_bytes: Size after zlib.
    """

    parameters: int
    nonzero: int
    bytes: int
    compressed_bytes: int


def footprint(module: nn.Module, packed: Mapping[str, Tensor] | None = None) -> Footprint:
    """The size of a module.

    Args:
        module: The module.
        packed: What is stored instead of its float32 weights.
    """
    parameters = [parameter.detach() for parameter in module.parameters()]
    stored = {name: value.detach().cpu().contiguous() for name, value in (packed or module.state_dict()).items()}
    body = pack(stored)
    return Footprint(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero=sum(int(parameter.count_nonzero()) for parameter in parameters),
        bytes=len(body),
        compressed_bytes=len(zlib.compress(body)),
    )


def paired_latency(first: nn.Module, second: nn.Module, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time one forward of each of two modules in turn, so that what slows the machine slows both.

    A first run of each is not counted.

    Args:
        first: A module.
        second: Another.
        images: The images of a forward, (N, C, H, W).

    Returns:
        Seconds of each run of the first, and of the second.
    """
    modes = first.training, second.training
    first.eval(), second.eval()
    try:
        with torch.no_grad():
            runs = [(_seconds(first, images), _seconds(second, images)) for _ in range(_RUNS + 1)]
    finally:
        first.train(modes[0]), second.train(modes[1])
    first_seconds, second_seconds = zip(*runs[1:], strict=True)
    return first_seconds, second_seconds


def _seconds(module: nn.Module, images: Tensor) -> float:
    started = time.perf_counter()
    module(images).sum().item()
    return time.perf_counter() - started
