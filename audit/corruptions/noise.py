"""Noise: Gaussian, shot, impulse and speckle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audit.corruptions.strength import Strengths
from audit.registry import corruption
from audit.seeding import Generators
from audit.types import Images

_PAPER = "arXiv:1903.12261"

_GAUSSIAN = Strengths(small=(0.04, 0.06, 0.08, 0.09, 0.10), large=(0.08, 0.12, 0.18, 0.26, 0.38))
_SHOT = Strengths(small=(500, 250, 100, 75, 50), large=(60, 25, 12, 5, 3))
_IMPULSE = Strengths(small=(0.01, 0.02, 0.03, 0.05, 0.07), large=(0.03, 0.06, 0.09, 0.17, 0.27))
_SPECKLE = Strengths(small=(0.06, 0.1, 0.12, 0.16, 0.2), large=(0.15, 0.2, 0.35, 0.45, 0.6))


@corruption(reference=_PAPER, group="noise")
def gaussian_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Independent normal noise on each pixel and channel: low light."""
    scale = _GAUSSIAN.at(images, severity)
    return (images + scale * generators.normal(*images.shape[1:])).clamp(0, 1)


@corruption(reference=_PAPER, group="noise")
def shot_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Poisson noise of a sensor that counts few photons."""
    photons = _SHOT.at(images, severity)
    return (poisson(images * photons, photons, generators) / photons).clamp(0, 1)


@corruption(reference=_PAPER, group="noise")
def impulse_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Salt and pepper: values replaced by 0 or 1."""
    share = _IMPULSE.at(images, severity)
    hit = generators.fork(0).uniform(*images.shape[1:]) < share
    salt = generators.fork(1).uniform(*images.shape[1:]) < 0.5
    return torch.where(hit, salt.to(images.dtype), images)


@corruption(reference=_PAPER, group="extra")
def speckle_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Normal noise in proportion to each value."""
    scale = _SPECKLE.at(images, severity)
    return (images * (1 + scale * generators.normal(*images.shape[1:]))).clamp(0, 1)


def poisson(rates: Images, largest: float, generators: Generators) -> Images:
    """Poisson draws with mean `rates`, at most `largest`, by inversion of sums of small rates."""
    parts = math.ceil(largest / 50)
    shares = [_small_poisson(rates / parts, largest / parts, generators.fork(part)) for part in range(parts)]
    return torch.stack(shares).sum(0)


def _small_poisson(rates: Tensor, largest: float, generators: Generators) -> Tensor:
    """Inversion: count the steps of the cumulative distribution that lie at or below a uniform draw."""
    draw = generators.uniform(*rates.shape[1:])
    probability = torch.exp(-rates)
    below = probability.clone()
    count = torch.zeros_like(rates)
    for k in range(1, math.ceil(largest + 8 * math.sqrt(largest) + 8)):
        count += draw >= below
        probability = probability * rates / k
        below += probability
    return count
