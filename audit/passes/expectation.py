"""Expectation over randomness: a model that is not a function is attacked, and judged, by its mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audit.models.under_test import ModelUnderTest
from audit.passes.restarts import broken_by
from audit.seeding import derive_seed
from audit.types import Batch, Images

DRAWS = 20
"""Forwards whose mean stands for a random model."""

NOISE_IN_LOGITS = 1e-3
"""Change of a logit between two forwards of the same image, over the logits' spread, that counts as random."""


def wobble(model: ModelUnderTest, images: Images) -> float:
    """The largest change of a logit on a second forward, over the logits' mean spread; 0 for a function."""
    if len(images) == 0:
        return 0.0
    first, second = model.logits(images), model.logits(images)
    spread = float((first.amax(1) - first.amin(1)).mean())
    return float((first - second).abs().max()) / max(spread, 1e-12)


@contextmanager
def expectation(model: ModelUnderTest, draws: int, seed: int) -> Iterator[None]:
    """Within the block every logit, and so every gradient, is the mean of `draws` forwards (Athalye et al. 2018,
    arXiv:1802.00420), each counted. The model's own random numbers follow `seed`, and torch's global generators are as
    they were after it. Nothing changes for one draw."""
    if draws == 1:
        yield
        return
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, "expectation") % 2**63)
        model.module.draws = draws
        try:
            yield
        finally:
            model.module.draws = 1


def fragile(model: ModelUnderTest, batch: Batch, images: Images, broken: torch.Tensor) -> float:
    """The share of verdicts, `broken` bool (N,) on `images`, that turn when the model is asked again."""
    again = broken_by(model, batch, images)
    return float((again != broken.to(again.device)).double().mean()) if len(batch) else 0.0
