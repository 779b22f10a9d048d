"""Agreement of attribution maps: between methods, between seeds, between models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.registry import metric
from audit.core.types import Attributions


@metric(reference="Spearman 1904", unit="rank correlation", better="neither")
def rank_agreement(first: Attributions, second: Attributions) -> Tensor:
    """Spearman's correlation of two maps' pixels, channels summed with their signs, float64 (N,).

    Ties share their mean rank. NaN where a map is constant.

    Args:
        first: Attributions (N, C or 1, H, W).
        second: Attributions (N, C or 1, H, W) of the same images.
    """
    x, y = (_ranks(precise(maps).sum(1).flatten(1)) for maps in (first, second))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    scale = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(scale > 0, (x * y).sum(1) / scale, torch.nan)


@metric(reference="Jaccard 1912", unit="share", better="neither")
def top_overlap(first: Attributions, second: Attributions, share: float = 0.1) -> Tensor:
    """The overlap (intersection over union) of two maps' highest `share` of pixels, float64 (N,).

    Args:
        first: Attributions (N, C or 1, H, W).
        second: Attributions (N, C or 1, H, W) of the same images.
        share: Of the pixels, in (0, 1].
    """
    top_sets = []
    for maps in (first, second):
        values = precise(maps).sum(1).flatten(1)
        count = max(1, round(share * values.shape[1]))
        top_sets.append(torch.zeros_like(values).scatter_(1, values.topk(count, dim=1).indices, 1.0))
    both = (top_sets[0] * top_sets[1]).sum(1)
    return both / (top_sets[0] + top_sets[1] - top_sets[0] * top_sets[1]).sum(1)


@metric(reference="arXiv:1806.08049", unit="rank correlation", better="higher")
def seed_stability(maps: Tensor) -> Tensor:
    """The mean rank agreement of every two of `maps` (R, N, C, H, W), made under R seeds, float64 (N,).

    Args:
        maps: Attributions of the same N images under R seeds, at least two, (R, N, C or 1, H, W).
    """
    pairs = [rank_agreement(maps[i], maps[j]) for i in range(len(maps)) for j in range(i + 1, len(maps))]
    return torch.stack(pairs).mean(0)


def agreement_matrix(maps: Mapping[str, Attributions]) -> Tensor:
    """The mean rank agreement over images of every two methods, float64 (methods, methods), in the mapping's order.

    Images on which one of the two is constant are left out; NaN where none is left.

    Args:
        maps: Attributions (N, C or 1, H, W) of the same images, by method.
    """
    names = list(maps)
    matrix = torch.ones(len(names), len(names), dtype=torch.float64, device="cpu")
    for i, name in enumerate(names):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = rank_agreement(maps[name], maps[names[j]]).nanmean().cpu()
    return matrix


def _ranks(values: Tensor) -> Tensor:
    """Mean ranks of each row, as `scipy.stats.rankdata` gives them."""
    ordered, order = values.sort(dim=1)
    new = torch.ones_like(ordered, dtype=torch.int64)
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    group = new.cumsum(1) - 1
    rank = torch.arange(values.shape[1], device=values.device, dtype=torch.float64).expand_as(values)
    sums = torch.zeros_like(rank).scatter_add(1, group, rank)
    sizes = torch.zeros_like(rank).scatter_add(1, group, torch.ones_like(rank))
    mean = (sums / sizes.clamp(min=1)).gather(1, group)
    return torch.zeros_like(rank).scatter(1, order, mean)
