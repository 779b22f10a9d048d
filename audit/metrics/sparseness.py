"""Sparseness and complexity of an attribution map."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.registry import metric
from audit.core.types import Attributions


@metric(reference="arXiv:1810.06583", unit="Gini index", better="neither")
def sparseness(attributions: Attributions) -> Tensor:
    """The Gini index of the map's absolute values, channels summed, float64 (N,): 0 all alike, near 1 one pixel.

    NaN where the map is all zero.

    Args:
        attributions: Float (N, C or 1, H, W).
    """
    values = precise(attributions).abs().sum(1).flatten(1).sort(dim=1).values
    size = values.shape[1]
    rank = torch.arange(1, size + 1, device=values.device, dtype=values.dtype)
    total = values.sum(1)
    gini = ((2 * rank - size - 1) * values).sum(1) / (size * total)
    return torch.where(total > 0, gini, torch.nan)


@metric(reference="arXiv:2401.06465", unit="bits", better="neither")
def complexity(attributions: Attributions, bins: int = 100) -> Tensor:
    """The entropy of the map's histogram between its own extremes, float64 (N,); 0 for a constant map.

    Args:
        attributions: Float (N, C or 1, H, W).
        bins: Of the histogram.
    """
    values = precise(attributions).sum(1).flatten(1)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    index = ((values - low) / (high - low).clamp(min=1e-300) * bins).floor().clamp(0, bins - 1).long()
    counts = torch.zeros(len(values), bins, dtype=torch.float64, device=values.device)
    share = counts.scatter_add(1, index, torch.ones_like(values)) / values.shape[1]
    return -(share * share.clamp(min=1e-300).log2()).sum(1)
