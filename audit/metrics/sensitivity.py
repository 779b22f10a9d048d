"""Max-sensitivity: how far a map moves when the image moves imperceptibly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audit.core.registry import metric
from audit.core.seeding import Generators
from audit.core.types import Attributions, Images


@metric(reference="arXiv:1901.09392", unit="share", better="lower")
def max_sensitivity(
    explain: Callable[[Images], Attributions],
    images: Images,
    attributions: Attributions,
    *,
    generators: Generators,
    samples: int = 8,
    radius: float = 0.02,
) -> Tensor:
    """The largest relative change of the map over `samples` images drawn within `radius` (linf) and [0, 1], (N,).

    Max-sensitivity of arXiv:1901.09392, relative to the map's length. NaN where the map itself is all zero.

    Args:
        explain: Gives the maps of images; must keep target, baseline, segments and random draws fixed.
        images: Float32 (N, C, H, W) in [0, 1].
        attributions: Their maps, (N, C or 1, H, W).
        generators: One random generator an image.
        samples: Images drawn around each.
        radius: Of the linf ball, in the pixel range.
    """
    length = attributions.flatten(1).norm(dim=1)
    worst = torch.zeros_like(length)
    for sample in range(samples):
        uniform = generators.fork(sample).uniform(*images.shape[1:]).to(images.dtype)
        moved = explain((images + (2 * uniform - 1) * radius).clamp(0, 1))
        worst = torch.maximum(worst, (moved - attributions).flatten(1).norm(dim=1))
    return torch.where(length > 0, worst / length, torch.nan)
