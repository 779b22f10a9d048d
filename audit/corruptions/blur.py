"""Blur: defocus, frosted glass, motion, zoom and Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from audit.core.registry import corruption
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.corruptions.filters import (
    convolve,
    gaussian_kernel,
    picked,
    positions,
    smooth,
    streaked,
    zoomed,
)
from audit.corruptions.strength import Strengths, pixel_scale

_PAPER = "arXiv:1903.12261"

_DEFOCUS = Strengths(
    small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    large=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
)
_GLASS = Strengths(
    small=((0.4, 1, 1), (0.25, 1, 1), (0.4, 1, 2), (0.25, 1, 2), (0.4, 2, 2)),
    large=((0.7, 1, 1), (0.9, 2, 1), (1, 2, 2), (1.1, 3, 2), (1.5, 4, 2)),
)
"""Blur, reach and rounds: as published where distortion rises with severity, steps between those elsewhere."""
_MOTION = Strengths(
    small=((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    large=((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
)
_ZOOM = Strengths(
    small=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    large=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
_GAUSSIAN = Strengths(small=(0.4, 0.6, 0.7, 0.8, 1), large=(1, 2, 3, 4, 6))


@corruption(reference=_PAPER, group="blur")
def defocus_blur(images: Images, severity: int, generators: Generators) -> Images:
    """A disk for each point of light, its rim softened.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    radius, softness = _DEFOCUS.at(images, severity)
    return convolve(images, _disk(radius * max(1.0, pixel_scale(images)), softness, images)).clamp(0, 1)


@corruption(reference=_PAPER, group="blur")
def glass_blur(images: Images, severity: int, generators: Generators) -> Images:
    """Each pixel replaced by one close by, between two slight blurs: frosted glass.

    All pixels are drawn at once, where the published code swaps one after another.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    sigma, reach, rounds = _GLASS.at(images, severity)
    scale = pixel_scale(images)
    rows, columns = positions(images)
    shuffled = smooth(images, sigma * scale)
    for turn in range(rounds):
        # whole steps from -reach to reach - 1, as published, once rounded at the published size
        steps = (generators.fork(turn).uniform(2, *images.shape[-2:]) * 2 * reach - reach - 0.5) * scale
        shuffled = picked(shuffled, rows + steps[:, 0], columns + steps[:, 1])
    return smooth(shuffled, sigma * scale).clamp(0, 1)


@corruption(reference=_PAPER, group="blur")
def motion_blur(images: Images, severity: int, generators: Generators) -> Images:
    """A camera that moves, within 45 degrees of the horizontal.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    radius, sigma = _MOTION.at(images, severity)
    scale = pixel_scale(images)
    degrees = generators.uniform(1)[:, 0] * 90 - 45
    return streaked(images, radius * scale, sigma * scale, degrees).clamp(0, 1)


@corruption(reference=_PAPER, group="blur")
def zoom_blur(images: Images, severity: int, generators: Generators) -> Images:
    """A camera that approaches: the mean over magnifications.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    end, step = _ZOOM.at(images, severity)
    factors = np.arange(1, end, step)
    total = images.clone()
    for factor in factors:
        total += zoomed(images, float(factor))
    return (total / (len(factors) + 1)).clamp(0, 1)


@corruption(reference=_PAPER, group="extra")
def gaussian_blur(images: Images, severity: int, generators: Generators) -> Images:
    """A normal kernel.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    return smooth(images, _GAUSSIAN.at(images, severity) * pixel_scale(images)).clamp(0, 1)


def _disk(radius: float, softness: float, like: Tensor) -> Tensor:
    """The pixels within `radius`, blurred by `softness`, normalised."""
    rim = 1 if radius <= 8 else 2
    reach = math.floor(radius) + rim
    line = torch.arange(-reach, reach + 1, device=like.device, dtype=torch.float32)
    disk = ((line[:, None] ** 2 + line[None, :] ** 2) <= radius**2).float()
    edge = gaussian_kernel(softness, rim, like)
    padded = torch.nn.functional.conv2d(disk[None, None], (edge[:, None] * edge[None, :])[None, None], padding=rim)
    return padded[0, 0] / padded.sum()
