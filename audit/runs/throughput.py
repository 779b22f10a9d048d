"""Measures how long a pass through the model takes on this machine, on a few images of noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from audit.core.types import PassCount
from audit.models.losses import margin
from audit.runs.setup import RunSetup

_IMAGES = 16


@dataclass(frozen=True)
class Throughput:
    """How long a pass takes an image.

    Attributes:
        forward: Seconds of a forward pass.
        gradient: Seconds of a gradient, which is a forward and a backward pass.
    """

    forward: float
    gradient: float

    def seconds(self, passes: PassCount) -> float:
        """The seconds that passes take.

        Args:
            passes: Their number; each backward pass is counted as a forward pass too.
        """
        return (passes.forwards - passes.backwards) * self.forward + passes.backwards * self.gradient


def measure_throughput(setup: RunSetup) -> Throughput:
    """Time the loaded model, or a new one of the run's architecture.

    Args:
        setup: The data, the model and the device.
    """
    model = (setup.model_factory() or setup.new_model)()
    noise = torch.rand(_IMAGES, *model.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    noise = noise.to(model.device)
    goal = torch.ones(_IMAGES, len(model.classes), dtype=torch.bool, device=model.device)
    goal[:, 0] = False
    forward = _fastest(lambda: float(model.logits(noise).sum()))
    try:
        gradient = _fastest(lambda: float(model.loss_gradient(noise, goal, margin).gradient.sum()))
    except RuntimeError:  # a model without gradients is never asked for any
        gradient = forward
    return Throughput(forward / _IMAGES, gradient / _IMAGES)


def _fastest(attempt: Callable[[], float]) -> float:
    """Seconds of the faster of two attempts; the first finds its memory."""
    durations = []
    for _ in range(2):
        started = time.monotonic()
        attempt()
        durations.append(time.monotonic() - started)
    return min(durations)
