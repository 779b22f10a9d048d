"""SmoothGrad: the gradient averaged over noisy copies."""

from __future__ import annotations

import torch

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.gradients import output_gradient
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1706.03825",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(settings["samples"], settings["samples"]),
)
def smooth_grad(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, samples: int = 32, noise: float = 0.15
) -> Attribution:
    """The mean gradient over `samples` copies with Gaussian noise of `noise` times the image's own range.

    The estimate of arXiv:1706.03825; copies come in pairs with opposite noise, which lowers the variance at no cost.
    The map is (N, C, H, W), in units of the output a pixel range.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Noisy copies an image.
        noise: Standard deviation of the Gaussian noise, as a share of the image's own range of values.
    """
    span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    scale = (noise * span).view(-1, 1, 1, 1)

    def noisy(sample: int) -> Images:
        noise_sample = spec.generators.fork(sample // 2).normal(*images.shape[1:]).to(images.dtype)
        return images + scale * (noise_sample if sample % 2 == 0 else -noise_sample)

    total = torch.zeros_like(images)
    # Few images would make small batches: several samples of each go together.
    group = max(1, model.layout.batch_size // len(images))
    with torch.no_grad():
        for start in range(0, samples, group):
            inputs = [noisy(sample) for sample in range(start, min(samples, start + group))]
            index = torch.arange(len(images), device=images.device).repeat(len(inputs))
            gradients = output_gradient(model, torch.cat(inputs), spec.select(index))
            total += gradients.view(len(inputs), *images.shape).sum(0)
        return Attribution(total / samples)
