"""Measures how long a pass through the model takes on this machine, on a few images of noise."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from audit.core.types import Images
from audit.models.autotune import tune_execution
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest
from audit.planning.throughput import Throughput

_SECONDS = 0.3
"""So long a measurement may take, with as many images as that allows, up to a batch."""
_FIRST = 2
_ATTEMPTS = 5
"""The fastest of up to so many counts: the first finds its memory, and others may be disturbed."""


def measure_throughput(model: ModelUnderTest) -> Throughput:
    """Time a model in the layout that a run would use, on as large a batch as a short time allows.

    Args:
        model: The model; its layout is chosen where that was not done before.
    """
    tune_execution(model)

    def gradient(noise: Images) -> float:
        goal = torch.ones(len(noise), len(model.classes), dtype=torch.bool, device=model.device)
        goal[:, 0] = False
        return float(model.loss_gradient(noise, goal, margin).gradient.sum())

    forward = _seconds_an_image(model, lambda noise: float(model.logits(noise).sum()))
    try:
        return Throughput(forward, _seconds_an_image(model, gradient))
    except RuntimeError:  # a model without gradients is never asked for any
        return Throughput(forward, forward)


def _seconds_an_image(model: ModelUnderTest, attempt: Callable[[Images], float]) -> float:
    """Seconds of the fastest attempt, over the images of one."""
    images = _FIRST
    while True:
        noise = torch.rand(images, *model.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        noise = noise.to(model.device)
        durations: list[float] = []
        while len(durations) < 2 or (len(durations) < _ATTEMPTS and sum(durations) < _SECONDS):
            started = time.monotonic()
            attempt(noise)
            durations.append(time.monotonic() - started)
        if images == model.layout.batch_size or 4 * min(durations) > _SECONDS:
            return min(durations) / images
        images = min(4 * images, model.layout.batch_size)
