"""Directions in a layer found without labels: non-negative factors of activations of crops (CRAFT, arXiv:2211.10154).

The activations A >= 0 of n crops, each pooled over its positions to a row of K channels, are approached by U V with
U >= 0 (n x r) and V >= 0 (r x K): min ||A - U V||_F (CRAFT, equation 1; its V is the transpose). A row of V is a
direction of the layer, a concept; U says how much of it a crop holds.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.core.types import Images

_SWEEPS = 60
"""Sweeps over the coefficients of a position; the test against scipy's exact solver asks for no more."""


def crops_of(images: Images, share: float, per_side: int) -> tuple[Images, NDArray[np.int64]]:
    """Square parts of images on a grid, enlarged to the images' size.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        share: Side of a part, as a share of the image's, in (0, 1].
        per_side: Parts along each side, whose positions are even.

    Returns:
        The crops, (N per_side^2, C, H, W), all of an image together; and the number of the image, the top and the left
        edge in pixels of each, int64 (N per_side^2, 3).
    """
    height, width = images.shape[2:]
    tall, wide = max(1, round(height * share)), max(1, round(width * share))
    tops = np.linspace(0, height - tall, per_side).round().astype(np.int64)
    lefts = np.linspace(0, width - wide, per_side).round().astype(np.int64)
    parts = [images[:, :, top : top + tall, left : left + wide] for top in tops for left in lefts]
    stacked = torch.stack(parts, 1).flatten(0, 1)
    enlarged = functional.interpolate(stacked, (height, width), mode="bilinear", align_corners=False).clamp(0, 1)
    places = [(image, top, left) for image in range(len(images)) for top in tops for left in lefts]
    return enlarged, np.array(places, np.int64).reshape(-1, 3)


def factorise(
    activations: NDArray[np.float32], count: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The non-negative factors of activations.

    Args:
        activations: Of crops, float (n, K), negative values counted as 0.
        count: The number r of directions; fewer where crops or channels are fewer.
        seed: Of the start.

    Returns:
        How much of each direction every crop holds, float64 (n, r), and the directions, float64 (r, K), of length 1;
        ordered by the part of the activations they account for, largest first.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    rows = np.clip(np.asarray(activations, np.float64), 0, None)
    count = min(count, *rows.shape)
    scale = float(np.sqrt(np.square(rows).mean())) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver = NMF(count, init="nndsvda", random_state=seed, max_iter=300, tol=1e-4)
        weights = np.asarray(solver.fit_transform(rows / scale), np.float64)
    directions = np.asarray(solver.components_, np.float64)
    lengths = np.linalg.norm(directions, axis=1)
    directions = directions / np.where(lengths > 0, lengths, 1)[:, None]
    weights = weights * lengths * scale
    order = np.argsort(-weights.sum(0), kind="stable")
    return weights[:, order], directions[order]


def concept_coefficients(activations: Tensor, directions: Tensor) -> Tensor:
    """How much of each direction activations hold: the u >= 0 that brings u V nearest to each, (..., r).

    By coordinate descent, in which each coefficient takes its best value while the others stay.

    Args:
        activations: Float (..., K).
        directions: Float (r, K).
    """
    products = activations.clamp(min=0) @ directions.T
    gram = directions @ directions.T
    coefficients = products.clamp(min=0) * 0
    for _ in range(_SWEEPS):
        for index in range(len(directions)):
            if not float(gram[index, index]) > 0:
                continue
            step = (products[..., index] - coefficients @ gram[:, index]) / gram[index, index]
            coefficients[..., index] = (coefficients[..., index] + step).clamp(min=0)
    return coefficients
