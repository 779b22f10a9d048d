"""Images that no classifier is made for, drawn here: noise, textures, and digits of another data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.types import Images

FOREIGN_KINDS = ("noise", "textures", "digits")
"""What is drawn: pixels, grains and clouds of noise; stripes, checks and discs; scikit-learn's handwritten digits."""


def foreign_images(kind: str, count: int, shape: tuple[int, int, int], seed: int) -> Images:
    """Draw foreign images.

    Args:
        kind: One of `FOREIGN_KINDS`.
        count: How many.
        shape: Channels, height and width.
        seed: Of the draws.

    Returns:
        Float32 (count, C, H, W) in [0, 1].
    """
    draw = np.random.default_rng([seed, FOREIGN_KINDS.index(kind)])
    return {"noise": _noise, "textures": _textures, "digits": _digits}[kind](count, shape, draw)


def _noise(count: int, shape: tuple[int, int, int], draw: np.random.Generator) -> Images:
    """Uniform pixels, then ever larger grains of them: a third of each."""
    channels, height, width = shape
    images: list[Tensor] = []
    for number in range(count):
        grain = (1, max(1, height // 14), max(1, height // 5))[number % 3]
        coarse = (channels, -(-height // grain), -(-width // grain))
        pixels = torch.from_numpy(draw.random((1, *coarse), dtype=np.float32))
        mode = "nearest" if number % 3 < 2 else "bilinear"
        images.append(functional.interpolate(pixels, (height, width), mode=mode))
    return torch.cat(images)


def _textures(count: int, shape: tuple[int, int, int], draw: np.random.Generator) -> Images:
    """Stripes, checks and discs of random period, direction, phase and two random colours."""
    channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    images = np.empty((count, *shape), np.float32)
    for number in range(count):
        angle, cycles, phase = draw.uniform(0, np.pi), draw.uniform(2, 7), draw.uniform(0, 1, 2)
        along = (np.cos(angle) * x + np.sin(angle) * y) * cycles + phase[0]
        across = (np.cos(angle) * y - np.sin(angle) * x) * cycles + phase[1]
        stripes, crossed = along % 1 < 0.5, across % 1 < 0.5
        discs = np.hypot(along % 1 - 0.5, across % 1 - 0.5) < 0.35
        pattern = (stripes, stripes ^ crossed, discs)[number % 3]
        colours = draw.random((2, channels, 1, 1))
        images[number] = np.where(pattern, colours[0], colours[1])
    return torch.from_numpy(images)


def _digits(count: int, shape: tuple[int, int, int], draw: np.random.Generator) -> Images:
    """8x8 digits, scaled to the size."""
    from sklearn.datasets import load_digits

    pixels = load_digits().images.astype(np.float32) / 16
    chosen = torch.from_numpy(pixels[draw.choice(len(pixels), count, replace=count > len(pixels))])[:, None]
    channels, height, width = shape
    scaled = functional.interpolate(chosen, (height, width), mode="bilinear")
    return scaled.expand(-1, channels, -1, -1).contiguous()
