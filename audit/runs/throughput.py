"""How long a pass takes here: the model tried on a few images of noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from audit.core.types import PassCount
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest
from audit.runs.setup import RunSetup

_TRIED = 16


@dataclass(frozen=True)
class Throughput:
    """Seconds a forward takes, and a gradient, which is a forward and the way back."""

    forward: float
    gradient: float

    def seconds(self, passes: PassCount) -> float:
        """What `passes` take; each that went back went forward too."""
        return (passes.forwards - passes.backwards) * self.forward + passes.backwards * self.gradient


def measure_throughput(prepared: RunSetup) -> Throughput:
    """The pace of the model that was given, or of a new one of the run's architecture."""
    model = (prepared.wrapped() or (lambda: _new(prepared)))()
    noise = torch.rand(_TRIED, *model.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    noise = noise.to(model.device)
    goal = torch.ones(_TRIED, len(model.classes), dtype=torch.bool, device=model.device)
    goal[:, 0] = False
    forward = _best(lambda: float(model.logits(noise).sum()))
    try:
        gradient = _best(lambda: float(model.loss_gradient(noise, goal, margin).gradient.sum()))
    except RuntimeError:  # a model without gradients is never asked for any
        gradient = forward
    return Throughput(forward / _TRIED, gradient / _TRIED)


def _new(prepared: RunSetup) -> ModelUnderTest:
    module = prepared.fresh(prepared.config.seed)
    dataset = prepared.dataset
    return ModelUnderTest(module, classes=dataset.classes, input_shape=dataset.shape, device=prepared.device)


def _best(attempt: Callable[[], float]) -> float:
    """Seconds of the faster of two attempts; the first finds its memory."""
    taken = []
    for _ in range(2):
        begun = time.monotonic()
        attempt()
        taken.append(time.monotonic() - begun)
    return min(taken)
