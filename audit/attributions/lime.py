"""LIME on image segments: the lime package's answer from one queue of masks, all images together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.shared_samples import reuse_samples, scores_of
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.weighted_ridge import lime_kernel_weights, weighted_ridge
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import segments_to_pixels
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1602.04938", needs="scores", signed=True, segment_based=True, baseline="segment-mean", version="1"
)
def lime(
    model: ModelUnderTest,
    images: Images,
    explained: ExplanationSpec,
    *,
    samples: int = 1000,
    kernel_width: float = 0.25,
    features: int | None = None,
    replay: int | None = None,
) -> Attribution:
    """Coefficients of a ridge regression of the output on which segments are shown, near the whole image.

    `samples` masks an image (the first shows everything); `kernel_width` of the proximity kernel on the cosine
    distance; `features` keeps that many segments at most. Each image draws from its own generator; `replay` draws
    instead what `lime_image.LimeImageExplainer(random_state=replay)` draws, and the coefficients are then its
    own. Quality: `r2` (weighted), `intercept`, `local_output` (the regression's value at the image). Units: output.
    """
    queue = explained.masks(model, images)
    drawn = [
        _replayed(replay, samples, size) if replay is not None else _drawn(explained, queue, row, samples)
        for row, size in enumerate(queue.sizes)
    ]
    outputs = scores_of(queue, drawn)
    fits = [
        weighted_ridge(masks, output, lime_kernel_weights(masks, kernel_width), features)
        for masks, output in zip(drawn, outputs, strict=True)
    ]
    quality = {
        "r2": torch.tensor([one.r2 for one in fits], device="cpu"),
        "intercept": torch.tensor([one.intercept for one in fits], device="cpu"),
        "local_output": torch.tensor([one.at_image for one in fits], device="cpu"),
    }
    return Attribution(segments_to_pixels([one.coefficients for one in fits], queue.segments), quality)


def _drawn(explained: ExplanationSpec, queue: MaskQueue, row: int, samples: int) -> Tensor:
    generator = explained.generators.select(torch.tensor([row], device=explained.targets.device))
    masks = generator.integers(2, samples, queue.sizes[row])[0].bool().cpu()
    return _whole_first(reuse_samples(queue, row, masks, generator.fork(0)))


def _replayed(seed: int, samples: int, size: int) -> Tensor:
    """lime draws, and throws away, a seed for its segmentation before it draws its masks."""
    state = np.random.RandomState(seed)
    state.randint(0, high=1000)
    return _whole_first(torch.from_numpy(state.randint(0, 2, samples * size).reshape(samples, size) == 1))


def _whole_first(masks: Tensor) -> Tensor:
    masks[0] = True
    return masks
