"""A problem small enough to train on in a blink: which third of the picture is bright."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audit.core.types import Batch


def thirds(count: int, seed: int = 0, size: int = 9) -> Batch:
    """Noise of `size` x `size` grey pixels with one of three bands a little brighter; the label is the band."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.rand(count, 1, size, size, generator=generator) * 0.5
    for band in range(3):
        images[labels == band, :, size // 3 * band : size // 3 * (band + 1)] += 0.35
    return Batch(images, labels, tuple(f"train/{seed}/{i:04d}" for i in range(count)))


def tiny_net(seed: int = 0, *, norm: bool = False) -> nn.Sequential:
    """Two convolutions and a linear layer, with batch normalisation between them if asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle = nn.BatchNorm2d(4) if norm else nn.Identity()
        layers = (nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU())
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 3))


def same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Bitwise, names included."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
