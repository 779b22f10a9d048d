"""SmoothGrad: the gradient averaged over noisy copies."""

from __future__ import annotations

import torch

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.gradients import mean_over_samples
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1706.03825", needs="gradients", signed=True)
def smooth_grad(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, samples: int = 32, noise: float = 0.15
) -> Attribution:
    """The mean gradient over `samples` copies with Gaussian noise of `noise` times the image's own range.

    Copies come in pairs with opposite noise, which halves the variance for nothing. Units: output a pixel range.
    """
    span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    scale = (noise * span).view(-1, 1, 1, 1)

    def noisy(sample: int) -> Images:
        drawn = explained.generators.fork(sample // 2).normal(*images.shape[1:]).to(images.dtype)
        return images + scale * (drawn if sample % 2 == 0 else -drawn)

    with torch.no_grad():
        return Attribution(mean_over_samples(model, images, explained, samples, noisy))
