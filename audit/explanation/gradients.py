"""The gradient of the explained output, for methods that average or multiply it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audit.core.types import Images, Labels, Logits
from audit.explanation.spec import ExplanationSpec
from audit.masking.outputs import score
from audit.models.under_test import ModelUnderTest


def output_gradient(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Images:
    """The gradient of each image's explained output to its pixels, (N, C, H, W)."""

    def quantity(logits: Logits, labels: Labels) -> Tensor:
        return score(logits, labels, explained.output)

    return model.loss_gradient(images, explained.targets, quantity).gradient


def mean_over_samples(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, samples: int, sample: Callable[[int], Images]
) -> Images:
    """The mean of `samples` maps, where `sample(s)` makes every image's s-th input and the map is its gradient.

    Samples go together until they fill a batch, so that few images are not forwarded in slivers.
    """
    total = torch.zeros_like(images)
    group = max(1, model.layout.batch_size // len(images))
    for start in range(0, samples, group):
        inputs = [sample(s) for s in range(start, min(samples, start + group))]
        index = torch.arange(len(images), device=images.device).repeat(len(inputs))
        gradients = output_gradient(model, torch.cat(inputs), explained.select(index))
        total += gradients.view(len(inputs), *images.shape).sum(0)
    return total / samples
