"""Shapley values from paired masks, with what neighbouring segments do together taken out of the noise.

A mask and its complement cancel interactions of even order (arXiv:2601.18608). The third order is the lowest that is
left, and in an image it is mostly one of neighbours: it is kriged, and its Shapley values, known in closed form, are
added to those of the rest (regression adjustment, arXiv:2506.11849).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the triples, in units of the kernel's mean diagonal; which one, or no triples at all, is for the data to say."""


class MaskPairs(NamedTuple):
    """m masks with their complements.

    Attributes:
        signs: 1 where the mask shows the segment and -1 where it does not, float64 (m, n).
        gains: Half the output under the mask less that under its complement, float64 (m,).
        weights: Of the regression, float64 (m,).
    """

    signs: Tensor
    gains: Tensor
    weights: Tensor


def adjusted_values(
    masks: Tensor, outputs: Tensor, weights: Tensor, total: float, windows: Tensor
) -> tuple[Tensor, Tensor]:
    """Shapley values that sum to a total, float64 (n,), and what each pair adds to their error, float64 (m, n).

    The estimate is linear in the outputs: its errors are that map's, applied to what each pair is missed by when it is
    left out.

    Args:
        masks: Bool (2m, n), each with its complement, m at least 2n.
        outputs: The output under each, float64 (2m,).
        weights: Of the regression, float64 (2m,).
        total: What the values sum to.
        windows: Float64 (W, n), see `nearness`.
    """
    pairs = paired(masks, outputs, weights)
    kernel, values = triples(pairs.signs, windows)
    smoother, residuals = _kriging(pairs, kernel)
    regression, pair_values = _regression(pairs)
    size = pairs.signs.shape[1]
    # values = regression (gains - triples - alone * rest) + rest / n + values of triples, where rest = total - theirs
    spread = regression @ pair_values - 1 / size
    lever = regression + (values - regression @ kernel + torch.outer(spread, values.sum(0))) @ smoother
    return lever @ pairs.gains - spread * total, (lever * residuals).T


def nearness(segments: Tensor) -> Tensor:
    """For each of n segments how near the others are, float64 (n, n) in (0, 1], on the CPU.

    A Gaussian of the distance between their centres, as wide as nearest neighbours are apart on average.

    Args:
        segments: int64 (H, W), numbered from 0.
    """
    flat = segments.cpu().flatten().numpy()
    rows, columns = np.divmod(np.arange(flat.size), segments.shape[1])
    counts = np.bincount(flat)
    centres = np.stack([np.bincount(flat, weights=side) / counts for side in (rows, columns)], axis=1)
    distances = torch.cdist(*(torch.from_numpy(centres),) * 2)
    unit = distances.topk(2, dim=1, largest=False).values[:, 1].mean()
    return torch.exp(-((distances / unit) ** 2) / 2)


def paired(masks: Tensor, outputs: Tensor, weights: Tensor) -> MaskPairs:
    """Match each mask that shows segment 0 with its complement.

    Args:
        masks: Bool (2m, n), complements included.
        outputs: Float64 (2m,).
        weights: Float64 (2m,), the same for both of a pair.
    """
    canonical = masks ^ ~masks[:, :1]
    _, pair = np.unique(np.packbits(canonical.numpy(), axis=1), axis=0, return_inverse=True)
    order = torch.from_numpy(np.lexsort((~masks[:, 0].numpy(), pair.ravel()))).view(-1, 2)
    first, second = order.unbind(1)
    return MaskPairs(masks[first].double() * 2 - 1, (outputs[first] - outputs[second]) / 2, weights[first])


def triples(signs: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """A kernel of third order, float64 (m, m) with mean diagonal 1, and the Shapley values of its columns, (n, m).

    k(z, y) sums w_a w_b w_c (z_a y_a)(z_b y_b)(z_c y_c) over all triples of segments and all windows w; from all
    hidden to all shown, z_a z_b z_c gains 2, shared by three.

    Args:
        signs: Float64 (m, n) of 1 and -1.
        windows: Weights w of the segments, float64 (W, n).
    """
    kernel, values = signs.new_zeros(len(signs), len(signs)), torch.zeros_like(signs)
    for window in windows:
        near = signs * window
        once, triple, squares = near @ signs.T, (signs * window**3) @ signs.T, (window**2).sum()
        kernel += (once**3 - 3 * squares * once + 2 * triple) / 6  # Newton's identity for three different factors
        others = near.sum(1, keepdim=True) - near
        values += near * (others**2 - (squares - window**2)) / 3
    scale = kernel.diagonal().mean().clamp(min=1e-300)
    return kernel / scale, values.T / scale


def _kriging(pairs: MaskPairs, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """What makes the triples' coefficients of the gains, (m, m), and what each pair is missed by when left out, (m,).

    The drift is linear in the segments; the shrinkage is the one that misses least. Without triples the map is 0.
    """
    beyond = torch.linalg.qr(pairs.signs, mode="complete")[0][:, pairs.signs.shape[1] :]
    variances, directions = torch.linalg.eigh(beyond.T @ kernel @ beyond)
    directions = beyond @ directions
    projected = directions.T @ pairs.gains
    filters = [torch.ones_like(variances), *(1 / (variances.clamp(min=0) + size) for size in _SHRINKAGES)]
    residuals = [directions @ (passed * projected) / (directions**2 @ passed).clamp(min=1e-12) for passed in filters]
    best = int(torch.stack([(errors**2).sum() for errors in residuals]).argmin())
    smoother = (directions * filters[best]) @ directions.T if best else torch.zeros_like(kernel)
    return smoother, residuals[best]


def _regression(pairs: MaskPairs) -> tuple[Tensor, Tensor]:
    """Weighted least squares of the gains on the segments with values that sum to 0: the map (n, m); and what a sum
    of 1 shared equally would gain in each pair, (m,)."""
    size = pairs.signs.shape[1]
    ones = torch.ones(size, 1, dtype=torch.float64, device="cpu")
    basis = torch.linalg.qr(ones, mode="complete")[0][:, 1:]
    reduced = pairs.signs @ basis / 2
    weighted = reduced.T * pairs.weights
    solved = torch.linalg.pinv(weighted @ reduced, hermitian=True) @ weighted
    return basis @ solved, pairs.signs.sum(1) / (2 * size)
