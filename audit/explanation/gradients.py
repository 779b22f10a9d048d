"""Gradients to the pixels: of the explained output, in batches, and whether there is one at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audit.core.types import Images, Labels, Logits
from audit.explanation.spec import ExplanationSpec
from audit.masking.outputs import score
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest


def output_gradient(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Images:
    """The gradient of each image's explained output to its pixels, (N, C, H, W).

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W).
        spec: What to explain of these N images.
    """

    def explained_score(logits: Logits, labels: Labels) -> Tensor:
        return score(logits, labels, spec.output)

    return model.loss_gradient(images, spec.targets, explained_score).gradient


def in_leaf_batches(model: ModelUnderTest, images: Images, compute: Callable[[Images, slice], Tensor]) -> Tensor:
    """Call `compute` on batches that fit in memory and join its answers.

    Args:
        model: The model, whose layout sets the batch size.
        images: Float32 (N, C, H, W).
        compute: `(leaf, rows) -> tensor`; `leaf` holds the images of `rows` and requires gradients.
    """

    def batch(rows: slice) -> Tensor:
        with torch.enable_grad():
            return compute(images[rows].detach().clone().requires_grad_(True), rows).detach()

    return torch.cat(list(in_batches(len(images), model.layout, batch)))


def has_input_gradient(model: ModelUnderTest) -> bool:
    """Whether the logits have a gradient to the pixels that is not zero everywhere, on four images of noise.

    A random mix of the logits is differentiated: a single one may be constant, and the sum of probabilities always is.

    Args:
        model: The model to try, four forwards and four backwards.
    """
    generator = torch.Generator(device="cpu").manual_seed(1)
    noise = torch.rand(4, *model.input_shape, generator=generator, device="cpu").to(model.device)
    with torch.enable_grad():
        try:
            logits = model.module(noise.requires_grad_(True))
        except RuntimeError:  # NumPy refuses tensors that require gradients.
            return False
        if not logits.requires_grad:
            return False
        mix = torch.rand(logits.shape, generator=generator, device="cpu").to(logits.device)
        (gradient,) = torch.autograd.grad((logits * mix).sum(), noise, allow_unused=True)
    return gradient is not None and bool((gradient != 0).any())
