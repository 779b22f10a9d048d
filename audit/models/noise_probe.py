"""What probes ask a model: images of noise, and the gradient of the margin on them."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.types import Images
from audit.models.image_model import ImageModel
from audit.models.losses import margin
from audit.models.under_test import LossGradient, ModelUnderTest


def noise_images(model: ImageModel, count: int, *, seed: int = 0) -> Images:
    """Images of noise, the same on every device.

    Args:
        model: The model that they are for.
        count: How many.
        seed: Of the noise.

    Returns:
        Float32 (N, C, H, W) uniform in [0, 1), on the model's device.
    """
    draws = torch.Generator("cpu").manual_seed(seed)
    return torch.rand(count, *model.input_shape, generator=draws, device="cpu").to(model.device)


def noise_goal(model: ModelUnderTest, count: int) -> Tensor:
    """The goal of leaving the first class, as losses take it.

    Args:
        model: The model.
        count: Of how many images.

    Returns:
        Bool (N, classes), on the model's device.
    """
    goal = torch.ones(count, len(model.classes), dtype=torch.bool, device=model.device)
    goal[:, 0] = False
    return goal


def noise_gradient(model: ModelUnderTest, images: Images) -> LossGradient:
    """The gradient of the margin away from the first class; passes are counted.

    Args:
        model: The model.
        images: Float32 (N, C, H, W).
    """
    return model.loss_gradient(images, noise_goal(model, len(images)), margin)
