"""Whether gradients carry information: zero or NaN gradients blind every attack that follows them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.note import NO_NOTE, Note, note
from audit.core.precise import precise
from audit.core.types import Batch, Images
from audit.models.losses import cross_entropy, margin
from audit.models.under_test import Loss, ModelUnderTest


@dataclass(frozen=True)
class GradientHealth:
    """What the gradients are, per example, for cross-entropy and for the margin.

    Attributes:
        ce_zero: Whether the gradient of cross-entropy is zero in every pixel, bool (N,).
        ce_nan: Whether it is not finite in some pixel, bool (N,).
        margin_zero: The same of the margin, bool (N,).
        margin_nan: The same of the margin, bool (N,).
        no_gradient_reason: Why there is no gradient at all, empty where there is one.
    """

    ce_zero: Tensor
    ce_nan: Tensor
    margin_zero: Tensor
    margin_nan: Tensor
    no_gradient_reason: Note = NO_NOTE

    def shares(self) -> dict[str, float]:
        """Each as a share of the examples."""
        named = {"ce_zero": self.ce_zero, "ce_nan": self.ce_nan}
        named |= {"margin_zero": self.margin_zero, "margin_nan": self.margin_nan}
        return {name: float(precise(flags).mean()) if len(flags) else 0.0 for name, flags in named.items()}


def gradient_health(model: ModelUnderTest, batch: Batch) -> GradientHealth:
    """Look at the gradients of cross-entropy and of the margin on each image.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
    """
    none = torch.ones(len(batch), dtype=torch.bool, device=model.device)
    if not differentiable(model, batch):
        reason = note(
            "no_gradient_to_follow",
            "The model's output does not depend on its input through autograd: there is no gradient to follow.",
        )
        return GradientHealth(none, ~none, none, ~none, reason)
    ce_zero, ce_nan = _flags(model, batch, cross_entropy)
    margin_zero, margin_nan = _flags(model, batch, margin)
    return GradientHealth(ce_zero, ce_nan, margin_zero, margin_nan)


def differentiable(model: ModelUnderTest, batch: Batch) -> bool:
    """Whether autograd connects the logits to the images.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
    """
    try:
        return _connected(model, batch.images[:1])
    except ValueError:  # Batch norm without statistics refuses a single image.
        return _connected(model, batch.images[:1].expand(4, -1, -1, -1))


def _connected(model: ModelUnderTest, images: Images) -> bool:
    with torch.enable_grad():
        leaf = model.check_images(images).detach().requires_grad_(True)
        try:
            logits = model.module(leaf)
        except RuntimeError:  # NumPy refuses tensors that require gradients.
            return False
        if not logits.requires_grad:
            return False
        try:
            return torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is not None
        except RuntimeError:  # an operation without a backward
            return False


def _flags(model: ModelUnderTest, batch: Batch, loss: Loss) -> tuple[Tensor, Tensor]:
    goal = batch.target_mask(len(model.classes)).to(model.device)
    flat = model.loss_gradient(batch.images, goal, loss).gradient.flatten(1)
    finite = flat.isfinite().all(1)
    return finite & (flat == 0).all(1), ~finite
