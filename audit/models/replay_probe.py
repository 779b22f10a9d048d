"""Whether steps of a search are faster replayed from CUDA graphs on this card, and up to how many images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from audit.models.losses import margin
from audit.models.noise_probe import noise_goal, noise_images
from audit.models.replayed_steps import ExampleRows, ReplayedSteps, RowStep
from audit.models.search_form import in_search_precision, search_form
from audit.models.under_test import ModelUnderTest

REPLAY_WORTHWHILE = 1.25
"""How many times faster replayed steps must be: they take memory of their own, and recording takes time."""

_STEPS = 8
"""Steps between two looks at what a search has finished, as it takes them on a card."""
_ROUNDS = 3
_FEWER = 8
"""By what the images of a step are divided where so many gain nothing."""
_LEAST = 8
_TOLERANCE = 1e-5
"""How far replayed gradients and losses may be from plain ones, as a share of their spread: as many images in the same
kernels give the same bits, and a recording that froze what it must not gives others."""


def most_replayed(model: ModelUnderTest, seconds: float) -> int:
    """The most images whose steps are worth replaying, by gradient steps timed in turn with plain ones.

    The fewer the images, the more of a step is launching. Passes are counted.

    Args:
        model: The model, whose layout is chosen.
        seconds: Time for it; a size that was begun is finished.

    Returns:
        The number of images; 0 where no size gains enough, cannot be recorded or gives other numbers.
    """
    form, started = search_form(model), time.monotonic()
    with in_search_precision(form):
        for size in _sizes(model.layout.batch_size):
            if _pays(form, size):
                return size
            if time.monotonic() - started > seconds:
                break
    return 0


def _sizes(largest: int) -> Iterator[int]:
    while largest >= _LEAST:
        yield largest
        largest //= _FEWER


def _pays(model: ModelUnderTest, size: int) -> bool:
    step, replayed = _ascent(model), ReplayedSteps(model)
    first, second = (_noise(model, size, seed) for seed in (0, 1))
    try:
        replayed.advance(step, first, 1, most=size)
        if not (replayed.records(size) and _agree(step(second), replayed.advance(step, second, 1, most=size))):
            return False
        plain = faster = float("inf")
        for _ in range(_ROUNDS):
            plain = min(plain, _seconds(lambda: _taken(step, first)))
            faster = min(faster, _seconds(lambda: replayed.advance(step, first, _STEPS, most=size)))
    except RuntimeError:  # memory, as a rule; a search goes on by halves
        return False
    return faster * REPLAY_WORTHWHILE < plain


def _ascent(model: ModelUnderTest) -> RowStep:
    """Steps up the gradient of the margin."""

    def step(rows: ExampleRows) -> ExampleRows:
        output = model.loss_gradient(rows["images"], rows["goal"], margin)
        length = output.gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        images = (rows["images"] + output.gradient / length).clamp(0, 1)
        return {**rows, "images": images, "gradient": output.gradient, "losses": output.losses}

    return step


def _taken(step: RowStep, rows: ExampleRows) -> ExampleRows:
    for _ in range(_STEPS):
        rows = step(rows)
    return rows


def _noise(model: ModelUnderTest, size: int, seed: int) -> ExampleRows:
    images, goal = noise_images(model, size, seed=seed), noise_goal(model, size)
    return {"images": images, "goal": goal, "gradient": torch.zeros_like(images), "losses": images.new_zeros(size)}


def _agree(plain: ExampleRows, replayed: ExampleRows) -> bool:
    return all(_close(plain[name], replayed[name]) for name in ("gradient", "losses"))


def _close(plain: Tensor, replayed: Tensor) -> bool:
    return bool(((plain - replayed).abs().max() <= _TOLERANCE * plain.std()).item())


def _seconds(take: Callable[[], ExampleRows]) -> float:
    """How long it takes until its numbers can be read."""
    started = time.monotonic()
    take()["images"].sum().item()
    return time.monotonic() - started
