"""Noise: Gaussian, shot, impulse and speckle."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.registry import corruption
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.corruptions.strength import Strengths

_PAPER = "arXiv:1903.12261"

_GAUSSIAN = Strengths(small=(0.04, 0.06, 0.08, 0.09, 0.10), large=(0.08, 0.12, 0.18, 0.26, 0.38))
_SHOT = Strengths(small=(500, 250, 100, 75, 50), large=(60, 25, 12, 5, 3))
_IMPULSE = Strengths(small=(0.01, 0.02, 0.03, 0.05, 0.07), large=(0.03, 0.06, 0.09, 0.17, 0.27))
_SPECKLE = Strengths(small=(0.06, 0.1, 0.12, 0.16, 0.2), large=(0.15, 0.2, 0.35, 0.45, 0.6))

_FEW = 12.0
_MOST = 48
"""Of a Poisson variable of mean 12, more than ten deviations out."""


@corruption(reference=_PAPER, group="noise")
def gaussian_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Independent normal noise on each pixel and channel: low light.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    scale = _GAUSSIAN.at(images, severity)
    return (images + scale * generators.normal(*images.shape[1:])).clamp(0, 1)


@corruption(reference=_PAPER, group="noise")
def shot_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Poisson noise of a sensor that counts few photons.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    photons = _SHOT.at(images, severity)
    return (poisson(images * photons, generators) / photons).clamp(0, 1)


@corruption(reference=_PAPER, group="noise")
def impulse_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Salt and pepper: values replaced by 0 or 1.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    share = _IMPULSE.at(images, severity)
    replaced = generators.fork(0).uniform(*images.shape[1:]) < share
    salt = generators.fork(1).uniform(*images.shape[1:]) < 0.5
    return torch.where(replaced, salt.to(images.dtype), images)


@corruption(reference=_PAPER, group="extra")
def speckle_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Normal noise in proportion to each value.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    scale = _SPECKLE.at(images, severity)
    return (images * (1 + scale * generators.normal(*images.shape[1:]))).clamp(0, 1)


def poisson(rates: Images, generators: Generators) -> Images:
    """Poisson draws with mean `rates`: by inversion below 12, above by the quantile's expansion around the normal.

    The expansion (Cornish and Fisher 1938, to the third order) is off by less than 0.002 in probability there.

    Args:
        rates: Expected counts, (N, ...).
        generators: One random generator an example.
    """
    normal = generators.normal(*rates.shape[1:])
    exact = _inverted(rates.clamp(max=_FEW), torch.special.ndtr(normal))
    return torch.where(rates < _FEW, exact, _expanded(rates.clamp(min=_FEW), normal))


def _inverted(rates: Tensor, uniform: Tensor) -> Tensor:
    """Count the steps of the cumulative distribution that lie at or below a uniform draw."""
    probability = torch.exp(-rates)
    below = probability.clone()
    count = torch.zeros_like(rates)
    for k in range(1, _MOST):
        count += uniform >= below
        probability.mul_(rates).div_(k)
        below += probability
    return count


def _expanded(rates: Tensor, normal: Tensor) -> Tensor:
    root = rates.sqrt()
    curved = rates + root * normal + (normal**2 - 1) / 6 + (normal - normal**3) / (72 * root)
    return (curved + 0.5).floor().clamp(min=0)
