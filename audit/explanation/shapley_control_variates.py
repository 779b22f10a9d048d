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


class Odd(NamedTuple):
    """Half the difference of `gains` (m,) float64 between a mask and its complement, `signs` (m, n) being 1 where
    the mask shows the segment and -1 where it does not; `weights` (m,) of the regression."""

    signs: Tensor
    gains: Tensor
    weights: Tensor


def adjusted_values(
    masks: Tensor, outputs: Tensor, weights: Tensor, total: float, windows: Tensor
) -> tuple[Tensor, Tensor]:
    """Shapley values that sum to `total`, and their standard errors, float64 (n,) both.

    `masks` bool (2m, n), each with its complement, m at least 2n; `outputs` and `weights` float64 (2m,); `windows`
    float64 (W, n) as `nearness` gives. The estimate is linear in the outputs: its errors are that map's, applied to
    what each pair is missed by when it is left out.
    """
    odd = paired(masks, outputs, weights)
    kernel, values = triples(odd.signs, windows)
    smoother, missed = _kriging(odd, kernel)
    regression, alone = _regression(odd)
    size = odd.signs.shape[1]
    # values = regression (gains - triples - alone * rest) + rest / n + values of triples, where rest = total - theirs
    spread = regression @ alone - 1 / size
    lever = regression + (values - regression @ kernel + torch.outer(spread, values.sum(0))) @ smoother
    return lever @ odd.gains - spread * total, ((lever * missed) ** 2).sum(1).sqrt()


def nearness(segments: Tensor) -> Tensor:
    """For each segment of `segments` int64 (H, W), how near the others are: a Gaussian of the distance between their
    middles, as wide as nearest neighbours are apart on average. Float64 (n, n), on the CPU."""
    flat = segments.cpu().flatten().numpy()
    rows, columns = np.divmod(np.arange(flat.size), segments.shape[1])
    counts = np.bincount(flat)
    middles = np.stack([np.bincount(flat, weights=side) / counts for side in (rows, columns)], axis=1)
    apart = torch.cdist(*(torch.from_numpy(middles),) * 2)
    unit = apart.topk(2, dim=1, largest=False).values[:, 1].mean()
    return torch.exp(-((apart / unit) ** 2) / 2)


def paired(masks: Tensor, outputs: Tensor, weights: Tensor) -> Odd:
    """Each mask that shows segment 0 with its complement."""
    canonical = masks ^ ~masks[:, :1]
    _, pair = np.unique(np.packbits(canonical.numpy(), axis=1), axis=0, return_inverse=True)
    order = torch.from_numpy(np.lexsort((~masks[:, 0].numpy(), pair.ravel()))).view(-1, 2)
    first, second = order.unbind(1)
    return Odd(masks[first].double() * 2 - 1, (outputs[first] - outputs[second]) / 2, weights[first])


def triples(signs: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """A kernel of third order, float64 (m, m) with mean diagonal 1, and the Shapley values of its columns, (n, m).

    k(z, y) sums w_a w_b w_c (z_a y_a)(z_b y_b)(z_c y_c) over all triples of segments and all windows w; from all
    hidden to all shown, z_a z_b z_c gains 2, shared by three.
    """
    kernel, values = signs.new_zeros(len(signs), len(signs)), torch.zeros_like(signs)
    for window in windows:
        near = signs * window
        once, thrice, squares = near @ signs.T, (signs * window**3) @ signs.T, (window**2).sum()
        kernel += (once**3 - 3 * squares * once + 2 * thrice) / 6  # Newton's identity for three different factors
        others = near.sum(1, keepdim=True) - near
        values += near * (others**2 - (squares - window**2)) / 3
    scale = kernel.diagonal().mean().clamp(min=1e-300)
    return kernel / scale, values.T / scale


def _kriging(odd: Odd, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """What makes the triples' coefficients of the gains, (m, m), and what each pair is missed by when left out, (m,).

    The drift is linear in the segments; the shrinkage is the one that misses least. Without triples the map is 0.
    """
    beyond = torch.linalg.qr(odd.signs, mode="complete")[0][:, odd.signs.shape[1] :]
    variances, directions = torch.linalg.eigh(beyond.T @ kernel @ beyond)
    directions = beyond @ directions
    seen = directions.T @ odd.gains
    filters = [torch.ones_like(variances), *(1 / (variances.clamp(min=0) + size) for size in _SHRINKAGES)]
    missed = [directions @ (kept * seen) / (directions**2 @ kept).clamp(min=1e-12) for kept in filters]
    best = int(torch.stack([(one**2).sum() for one in missed]).argmin())
    smoother = (directions * filters[best]) @ directions.T if best else torch.zeros_like(kernel)
    return smoother, missed[best]


def _regression(odd: Odd) -> tuple[Tensor, Tensor]:
    """Weighted least squares of the gains on the segments with values that sum to 0: the map (n, m); and what a sum
    of 1 shared equally would gain in each pair, (m,)."""
    size = odd.signs.shape[1]
    ones = torch.ones(size, 1, dtype=torch.float64, device="cpu")
    basis = torch.linalg.qr(ones, mode="complete")[0][:, 1:]
    reduced = odd.signs @ basis / 2
    weighted = reduced.T * odd.weights
    solved = torch.linalg.pinv(weighted @ reduced, hermitian=True) @ weighted
    return basis @ solved, odd.signs.sum(1) / (2 * size)
