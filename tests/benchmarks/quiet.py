"""Timing a call beside the bare passes it needs, and the net of the usual size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


class Clock:
    """What seconds are read from: the wall's, or the processor's."""

    read: Callable[[], float] = staticmethod(time.perf_counter)


def at_224(batch: Batch) -> tuple[ModelUnderTest, Tensor]:
    """A net of the usual size, its weights drawn, and one image enlarged to fit it."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18()
    large = ModelUnderTest(net, classes=[str(i) for i in range(1000)], input_shape=(3, 224, 224), device="cpu")
    image = batch.images[:1].expand(1, 3, -1, -1)
    return large, torch.nn.functional.interpolate(image, size=(224, 224), mode="bilinear")


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` gives, and its seconds."""
    start = Clock.read()
    found = run()
    return found, Clock.read() - start


def bare_seconds(model: ModelUnderTest, images: Tensor, forwards: int) -> float:
    """The model's own time for so many forwards, in its layout and batch size, warm."""
    size = model.layout.batch_size
    full = images[torch.arange(size) % len(images)].contiguous()
    with torch.no_grad():
        model.module(full)
        _, seconds = timed(lambda: [model.module(full) for _ in range(max(1, forwards // size))])
    return float(seconds * forwards / (max(1, forwards // size) * size))


@contextmanager
def seconds_inside(model: ModelUnderTest) -> Iterator[list[float]]:
    """The seconds of each forward while the context lasts."""
    seconds: list[float] = []
    hooks = (
        model.module.register_forward_pre_hook(lambda *_: seconds.append(-Clock.read())),
        model.module.register_forward_hook(lambda *_: seconds.append(Clock.read())),
    )
    yield seconds
    for hook in hooks:
        hook.remove()
