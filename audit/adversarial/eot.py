"""Expectation over transformation: a model that answers differently each time is attacked, and judged, by its mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audit.adversarial.restarts import is_adversarial
from audit.adversarial.thresholds import THRESHOLDS
from audit.core.precise import precise
from audit.core.seeding import fork_global_rng
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest

EOT_SAMPLES = 20
"""Forwards whose mean stands for a random model."""

ASKED_TWICE = 64
"""Images on which a model shows whether it is random."""

_GRAPHS = 2**21
"""Pixel values of images times draws that one batch may hold: the graphs of all draws stand in memory together."""


def eot_samples(noise: float) -> int:
    """Forwards to take the mean of: 1 for a deterministic model.

    Args:
        noise: What `logit_noise` measured.
    """
    return EOT_SAMPLES if noise > THRESHOLDS["logit_noise"].above else 1


def logit_noise(model: ModelUnderTest, images: Images, seed: int) -> float:
    """The largest change of a logit on a second forward, over the logits' mean spread; 0 for a deterministic model.

    Args:
        model: The model under attack.
        images: Float32 (N, C, H, W) in [0, 1].
        seed: Root of the random draws.
    """
    if len(images) == 0:
        return 0.0
    with fork_global_rng(model.device, seed, "wobble"):
        first, second = model.logits(images), model.logits(images)
    spread = float((first.amax(1) - first.amin(1)).mean())
    return float((first - second).abs().max()) / max(spread, 1e-12)


@contextmanager
def expectation_over_transformation(model: ModelUnderTest, draws: int, seed: int) -> Iterator[None]:
    """Within the block every logit, and so every gradient, is the mean of several forwards (Athalye et al. 2018,
    arXiv:1802.00420), each counted.

    The model's own random numbers follow `seed`, and torch's global generators are as they were after it. Batches are
    smaller where large images times draws would fill the memory. Nothing changes for one draw.

    Args:
        model: The model under attack.
        draws: Forwards that each logit is the mean of.
        seed: Root of the random draws.
    """
    if draws == 1:
        yield
        return
    before, batch_size = model.module.draws, model.layout.batch_size
    with fork_global_rng(model.device, seed, "expectation"):
        model.module.draws, model.layout.batch_size = draws, _batch(model, draws)
        try:
            yield
        finally:
            model.module.draws, model.layout.batch_size = before, batch_size


@contextmanager
def eot_if_stochastic(model: ModelUnderTest, images: Images, seed: int) -> Iterator[int]:
    """`expectation_over_transformation` where the model answers differently on the first of `images`.

    Args:
        model: The model under attack.
        images: Float32 (N, C, H, W) in [0, 1].
        seed: Root of the random draws.

    Returns:
        The number of forwards that each logit is the mean of, for the `with` statement.
    """
    draws = eot_samples(logit_noise(model, images[:ASKED_TWICE], seed))
    with expectation_over_transformation(model, draws, seed):
        yield draws


def flip_rate(model: ModelUnderTest, batch: Batch, images: Images, broken: torch.Tensor) -> float:
    """The share of verdicts that turn when the model is asked again.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        images: What was judged, float32 (N, C, H, W).
        broken: The verdicts, bool (N,).
    """
    again = is_adversarial(model, batch, images)
    return float(precise(again != broken.to(again.device)).mean()) if len(batch) else 0.0


def _batch(model: ModelUnderTest, draws: int) -> int:
    """As many images as before where they are small; at least as many as the memory held before, draws and all."""
    size = model.layout.batch_size
    return max(1, min(size, max(size // draws, _GRAPHS // (draws * math.prod(model.input_shape)))))
