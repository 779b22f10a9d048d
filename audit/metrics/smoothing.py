"""Randomised smoothing: a certified l2 radius for the classifier that votes over Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from torch import Tensor

from audit.core.errors import UsageError
from audit.core.registry import metric
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.models.under_test import ModelUnderTest

_VALUES = 1 << 22
"""Pixel values of noisy images in flight; a bound on memory that changes no answer."""


@dataclass(frozen=True)
class Certificates:
    """What is certified of N images.

    Attributes:
        predictions: Of the smoothed classifier, int64 (N,); -1 where the vote is too close to certify.
        radius: Certified l2 radius in the pixel range, float64 (N,); 0 where not certified.
        share: Lower bound on the winner's share of the votes, float64 (N,).
    """

    predictions: NDArray[np.int64]
    radius: NDArray[np.float64]
    share: NDArray[np.float64]


@metric(reference="arXiv:1902.02918", unit="pixel range", better="higher", wraps="scipy")
def smoothing(
    model: ModelUnderTest,
    images: Images,
    generators: Generators,
    *,
    sigma: float = 0.25,
    selection: int = 100,
    samples: int = 1000,
    alpha: float = 0.001,
) -> Certificates:
    """Cohen et al.'s CERTIFY: `selection` votes choose the class, `samples` others bound its share p from below
    (Clopper and Pearson, one-sided at `alpha` an image), and the radius is sigma times the normal quantile of p.

    Theorem 1 of arXiv:1902.02918 with the second class's share bounded by 1 - p. It certifies the smoothed classifier,
    not the model itself. Noise is not clamped to [0, 1]. The votes of all images share their batches; each noise image
    depends on its example and its number alone.

    Args:
        model: The model to smooth.
        images: Float32 (N, C, H, W) in [0, 1].
        generators: One random generator an image.
        sigma: Standard deviation of the Gaussian noise, in the pixel range.
        selection: Votes that choose the class.
        samples: Votes that bound its share.
        alpha: Probability that a certificate is wrong, in (0, 0.5).

    Raises:
        UsageError: A sigma, a count or an alpha has no meaning.
    """
    if not (sigma > 0 and selection >= 1 and samples >= 1 and 0 < alpha < 0.5):
        raise UsageError("Smoothing needs sigma > 0, at least one vote, and alpha between 0 and 0.5.")
    votes = _votes(model, images, generators, sigma, selection + samples)
    top_class = votes[:, :selection].mode(dim=1).values
    wins = (votes[:, selection:] == top_class[:, None]).sum(1).cpu().numpy()
    share = np.where(wins > 0, betaincinv(np.maximum(wins, 1), samples - wins + 1, alpha), 0.0)
    certified = share > 0.5
    radius = np.where(certified, sigma * ndtri(np.where(certified, share, 0.5)), 0.0)
    return Certificates(np.where(certified, top_class.cpu().numpy(), -1), radius, share)


def _votes(model: ModelUnderTest, images: Images, generators: Generators, sigma: float, count: int) -> Tensor:
    """The class of each noisy image, int64 (N, count)."""
    images, keys = model.check_images(images), generators.keys.to(model.device)
    rows = torch.arange(len(images) * count, device=model.device)
    predictions, stride = [], max(1, _VALUES // math.prod(images.shape[1:]))
    for start in range(0, len(rows), stride):
        chunk = rows[start : start + stride]
        owner, number = chunk // count, chunk % count
        noise = Generators(keys[owner]).fork(number).normal(*images.shape[1:])
        predictions.append(model.predictions(images[owner] + sigma * noise))
    return torch.cat([rows[:0], *predictions]).view(len(images), count)
