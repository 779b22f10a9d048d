"""Random views of the training images: one affine map an image, drawn from its own generator, on its device.

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
    """Each image under one random affine map (rotation, shift, shear, zoom, flips, crop), bilinear, fill as set.

    The map is drawn by the image's own generator: the same image in another batch gets the same view. Images
    come back as they are when nothing is set.
    """
    if not settings.active:
        return images
    maps = draw_maps(generators, settings, height=images.shape[2], width=images.shape[3])
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    padding = _PADDING[settings.fill]
    return grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False).clamp(0, 1)


def draw_maps(generators: Generators, settings: AugmentationConfig, *, height: int, width: int) -> Tensor:
    """Affine maps from output to input positions in [-1, 1], float32 (N, 2, 3), as `affine_grid` reads them.

    Zoom first, then shear, rotation and shift.
    """
    spread = generators.uniform(8) * 2 - 1
    angle = spread[:, 0] * math.radians(settings.rotation)
    shear = spread[:, 1] * math.radians(settings.shear)
    zoom = 1 + spread[:, 2:4] * settings.zoom
    shift = spread[:, 4:6] * settings.shift * 2 + _crop(generators, settings.crop, height, width)
    flips = _flips(spread[:, 6:8], settings)
    turn = _rows(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
    lean = _rows(torch.ones_like(shear), -shear.sin(), torch.zeros_like(shear), shear.cos())
    scale = torch.diag_embed(zoom * flips)
    # Positions are relative to each side, so a turn of pixels is stretched back into them.
    sides = torch.tensor([width, height], dtype=torch.float32, device=angle.device)
    linear = (turn @ lean @ scale) * sides[None, None, :] / sides[None, :, None]
    return torch.cat([linear, shift[:, :, None]], dim=2)


def _rows(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)


def _flips(draws: Tensor, settings: AugmentationConfig) -> Tensor:
    """-1.0 where the axis is flipped, (N, 2) for x and y."""
    allowed = torch.tensor([settings.horizontal_flip, settings.vertical_flip], device=draws.device)
    return 1 - 2 * ((draws > 0) & allowed).to(draws.dtype)


def _crop(generators: Generators, pixels: int, height: int, width: int) -> Tensor:
    """A shift by whole pixels, up to `pixels` each way: a crop of the padded image."""
    moved = generators.fork(1).integers(2 * pixels + 1, 2).to(torch.float32) - pixels
    sides = torch.tensor([width, height], dtype=torch.float32, device=moved.device)
    return moved * 2 / sides
