"""ROAD: remove pixels by noisy linear imputation, which tells the model little of where pixels were removed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.registry import metric
from audit.core.seeding import Generators
from audit.core.types import Images, Labels, Logits
from audit.masking.evaluate import evaluate
from audit.masking.outputs import Output, score
from audit.models.under_test import ModelUnderTest

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
_NEIGHBOURS = ((0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12))
"""Half of the eight neighbours with their weights; the others mirror them."""


@metric(reference="arXiv:2202.00449", unit="of the output", better="lower")
def road(
    model: ModelUnderTest,
    images: Images,
    order: Tensor,
    *,
    targets: Labels,
    generators: Generators,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    output: Output = "probability",
) -> Tensor:
    """The target's output after the first `shares` of the pixels in `order` (N, H x W) were imputed, (N, shares).

    Each removed pixel becomes the weighted mean of its eight neighbours, removed ones solved for together, plus noise
    (noisy linear imputation, arXiv:2202.00449).

    Args:
        model: The model to evaluate.
        images: Float32 (N, C, H, W) in [0, 1].
        order: Pixels from first to last, int64 (N, H x W).
        targets: The class of each image, int64 (N,).
        generators: One random generator an image.
        shares: Of the pixels to remove, each in [0, 1].
        noise: Standard deviation of the noise on removed pixels, in the pixel range.
        output: The quantity of the target class.
    """
    pixels = order.shape[1]
    ranks = order.argsort(1)
    filled = [
        impute(images, (ranks < round(share * pixels)).view(len(images), *images.shape[2:]))
        + noise
        * generators.fork(step).normal(*images.shape[1:])
        * (ranks < round(share * pixels)).view(len(images), 1, *images.shape[2:])
        for step, share in enumerate(shares)
    ]
    stacked = torch.stack(filled, 1).flatten(0, 1).clamp(0, 1)
    row_targets = targets.repeat_interleave(len(shares))

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return score(logits, row_targets[rows], output)

    return evaluate(model, len(stacked), lambda rows: stacked[rows], score_rows).view(len(images), len(shares))


def impute(images: Images, removed: Tensor) -> Images:
    """Solve removed pixels from their neighbours, float32 (N, C, H, W).

    Args:
        images: Float32 (N, C, H, W).
        removed: Bool (N, H, W).
    """
    values = images.detach().cpu().double().numpy()
    masks = removed.cpu().numpy()
    filled = [_impute_one(image, mask) for image, mask in zip(values, masks, strict=True)]
    return torch.from_numpy(np.stack(filled)).to(images.device, images.dtype)


def _impute_one(image: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    from scipy.sparse.linalg import spsolve

    removed = np.flatnonzero(mask.ravel())
    remaining = np.flatnonzero(~mask.ravel())
    flat = image.reshape(len(image), -1).copy()
    if not len(removed):
        return image
    if not len(remaining):
        return np.broadcast_to(flat.mean(1)[:, None, None], image.shape).copy()
    rows = _laplacian(mask.shape)[removed]
    solved = spsolve(rows[:, removed].tocsc(), -(rows[:, remaining] @ flat[:, remaining].T))
    flat[:, removed] = np.asarray(solved).reshape(len(removed), len(image)).T
    return flat.reshape(image.shape)


@cache
def _laplacian(shape: tuple[int, int]) -> Any:
    """Each pixel minus the weighted mean of its neighbours inside the image, sparse (H x W, H x W)."""
    from scipy.sparse import coo_matrix, diags

    index = np.arange(shape[0] * shape[1]).reshape(shape)
    rows, columns, weights = [], [], []
    for down, right, weight in _NEIGHBOURS:
        pixels = index[: shape[0] - down, max(0, -right) : shape[1] - max(0, right)].ravel()
        neighbours = index[down:, max(0, right) : shape[1] + min(0, right)].ravel()
        rows += [pixels, neighbours]
        columns += [neighbours, pixels]
        weights += [np.full(2 * len(pixels), weight)]
    adjacency = coo_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))).tocsr()
    return (diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
