"""A net with its normalisation, its outputs read as logits and its passes counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import UsageError
from audit.core.types import Images, Logits
from audit.models.batching import ExecutionLayout
from audit.models.outputs import OutputReader
from audit.models.pass_counter import PassCounter
from audit.models.precision import SearchPrecision, bfloat16_autocast, recurrent_gradients


class NormalisedModel(nn.Module):
    """Normalise images, run the net and give logits; count each example forwarded and each back-propagated.

    Attributes:
        reader: How logits are read from what the net returns; None gives what it returns.
        input_type: The type of number that the net is given.
        arithmetic: What the net computes in: float32 but in a search (see `audit.models.search_form`).
        draws: Forwards of which the logits are the mean; above 1 for a net that draws random numbers.
        mean: Subtracted from images in [0, 1], (1, C, 1, 1).
        std: Divided by after that, (1, C, 1, 1).
    """

    reader: OutputReader | None = None
    input_type: torch.dtype = torch.float32
    arithmetic: SearchPrecision
    draws: int = 1
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float], layout: ExecutionLayout) -> None:
        super().__init__()
        self.net = net
        self.layout = layout
        self.meter = PassCounter()
        self.arithmetic = "float32"
        self.register_buffer("mean", torch.tensor(mean, device="cpu", dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, device="cpu", dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Logits of images.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].

        Returns:
            Float32 (N, classes).
        """
        if self.layout.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        normalised = (images - self.mean).div_(self.std).to(self.input_type)
        with recurrent_gradients(self.net):
            outputs = self._outputs(normalised)
            self.meter.forwards += self.draws * len(images)
            if self.reader is None:
                return outputs  # type: ignore[no-any-return]  # the probe learns from it how to read it
            logits = self.reader(outputs, len(images))
            if self.draws > 1:
                further = [self.reader(self._outputs(normalised), len(images)) for _ in range(self.draws - 1)]
                logits = torch.stack([logits, *further]).mean(0)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    @contextmanager
    def computing_in(self, arithmetic: SearchPrecision) -> Iterator[None]:
        """A block in which the net computes in another precision.

        Args:
            arithmetic: Which.
        """
        before, self.arithmetic = self.arithmetic, arithmetic
        try:
            yield
        finally:
            self.arithmetic = before

    def _outputs(self, normalised: Images) -> Any:
        if self.arithmetic != "bfloat16":
            return self.net(normalised)
        with bfloat16_autocast(normalised.device):
            return self.net(normalised)

    def _count_backward(self, gradient: Tensor) -> None:
        self.meter.backwards += self.draws * len(gradient)


def normalisation(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the standard deviation of each channel.

    Args:
        mean: One number, or one a channel; None for 0.
        std: One number, or one a channel; None for 1.
        channels: The number of channels.

    Raises:
        UsageError: There are as many numbers as neither, or one cannot normalise an image.
    """
    means, stds = _per_channel(mean, 0.0, channels, "mean"), _per_channel(std, 1.0, channels, "std")
    if not min(stds) > 0:
        raise UsageError(f"std {stds} must be positive in every channel.")
    if not all(map(math.isfinite, (*means, *stds))):
        raise UsageError(f"mean {means} and std {stds} must be finite in every channel.")
    return means, stds


def _per_channel(value: float | Sequence[float] | None, default: float, channels: int, name: str) -> tuple[float, ...]:
    """One number a channel."""
    if value is None:
        return (default,) * channels
    numbers = [float(value)] if isinstance(value, int | float) else [float(v) for v in value]
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise UsageError(f"{name} has {len(numbers)} values for images of {channels} channels: give one, or one each.")
    return tuple(numbers)
