"""Augmentation: one random affine map an image, drawn from its own generator, on its device.

torchvision's v2 transforms draw one map for a whole batch, from a global generator, and fill with a constant alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from audit.config import AugmentationConfig
from audit.core.seeding import Generators
from audit.core.types import Images

_PADDING = {"nearest": "border", "reflect": "reflection", "zero": "zeros"}


def augment(images: Images, generators: Generators, settings: AugmentationConfig) -> Images:
    """Move each image by one random affine map: rotation, shift, shear, zoom, flips and crop, bilinear.

    Args:
        images: Images (N, C, H, W) in [0, 1].
        generators: One generator an image: the same image gets the same map in whatever batch.
        settings: The ranges to draw from, and the fill outside the image.

    Returns:
        Images (N, C, H, W) in [0, 1]; the same tensor when no range is set.
    """
    if not settings.active:
        return images
    maps = draw_maps(generators, settings, height=images.shape[2], width=images.shape[3])
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    padding = _PADDING[settings.fill]
    return grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False).clamp(0, 1)


def draw_maps(generators: Generators, settings: AugmentationConfig, *, height: int, width: int) -> Tensor:
    """Draw one affine map an image: zoom first, then shear, rotation and shift.

    Args:
        generators: One generator an image.
        settings: The ranges to draw from.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        Maps from output to input positions in [-1, 1], float32 (N, 2, 3), as `affine_grid` reads them.
    """
    uniform = generators.uniform(8) * 2 - 1
    angle = uniform[:, 0] * math.radians(settings.rotation)
    shear = uniform[:, 1] * math.radians(settings.shear)
    zoom = 1 + uniform[:, 2:4] * settings.zoom
    shift = uniform[:, 4:6] * settings.shift * 2 + _crop(generators, settings.crop, height, width)
    flips = _flips(uniform[:, 6:8], settings)
    rotated = _matrices(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
    sheared = _matrices(torch.ones_like(shear), -shear.sin(), torch.zeros_like(shear), shear.cos())
    scale = torch.diag_embed(zoom * flips)
    # Positions are relative to each side, so a turn of pixels is stretched back into them.
    sides = torch.tensor([width, height], dtype=torch.float32, device=angle.device)
    linear = (rotated @ sheared @ scale) * sides[None, None, :] / sides[None, :, None]
    return torch.cat([linear, shift[:, :, None]], dim=2)


def _matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)


def _flips(draws: Tensor, settings: AugmentationConfig) -> Tensor:
    """-1.0 where the axis is flipped, (N, 2) for x and y."""
    allowed = torch.tensor([settings.horizontal_flip, settings.vertical_flip], device=draws.device)
    return 1 - 2 * ((draws > 0) & allowed).to(draws.dtype)


def _crop(generators: Generators, pixels: int, height: int, width: int) -> Tensor:
    """A shift by whole pixels, up to `pixels` each way: a crop of the padded image."""
    pixels_moved = generators.fork(1).integers(2 * pixels + 1, 2).to(torch.float32) - pixels
    sides = torch.tensor([width, height], dtype=torch.float32, device=pixels_moved.device)
    return pixels_moved * 2 / sides
