"""Measures how long a pass through the model takes on this machine, on a few images of noise."""

from __future__ import annotations

import time
from collections.abc import Callable

from audit.core.types import Images
from audit.models.autotune import tune_execution
from audit.models.detectors.boxes import no_objects
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.noise_probe import noise_gradient, noise_images
from audit.models.under_test import ModelUnderTest
from audit.planning.throughput import Throughput

AnyModel = ModelUnderTest | DetectorUnderTest
"""A classifier or a detector."""
_SECONDS = 0.3
"""So long a measurement may take, with as many images as that allows, up to a batch."""
_FIRST = 2
_ATTEMPTS = 10


def measure_throughput(model: AnyModel) -> Throughput:
    """Time a model in the layout that a run would use, on as large a batch as a short time allows.

    Args:
        model: The model; its layout is chosen where that was not done before.
    """
    if isinstance(model, DetectorUnderTest):
        return _detector_throughput(model)
    tune_execution(model)
    forward = _seconds_an_image(model, lambda noise: float(model.logits(noise).sum()))
    try:
        backward = _seconds_an_image(model, lambda noise: float(noise_gradient(model, noise).gradient.sum()))
    except RuntimeError:  # a model without gradients is never asked for any
        return Throughput(forward, forward)
    return Throughput(forward, backward)


def _detector_throughput(detector: DetectorUnderTest) -> Throughput:
    forward = _seconds_an_image(detector, lambda noise: float(len(detector.detect(noise))))
    if not (detector.gives_losses and detector.gives_gradients):
        return Throughput(forward, forward)
    nothing = no_objects(detector.device)
    backward = _seconds_an_image(
        detector, lambda noise: float(detector.loss_gradient(noise, [nothing] * len(noise)).gradient.sum())
    )
    return Throughput(forward, backward)


def _seconds_an_image(model: AnyModel, attempt: Callable[[Images], float]) -> float:
    """Mean seconds of an image, over as many attempts as the time allows after a first, which finds its memory.

    The mean and not the fastest: what else the machine does slows a run as it slows this.
    """
    images = _FIRST
    while True:
        noise = noise_images(model, images)
        attempt(noise)
        started, attempts = time.monotonic(), 0
        while attempts < 2 or (attempts < _ATTEMPTS and time.monotonic() - started < _SECONDS):
            attempt(noise)
            attempts += 1
        seconds = (time.monotonic() - started) / attempts
        if images == model.layout.batch_size or 4 * seconds > _SECONDS:
            return seconds / images
        images = min(4 * images, model.layout.batch_size)
