"""Plasma fractals: the clouds of fog and the crystals of frost."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Images


def plasma(images: Images, decay: float, generators: Generators) -> Tensor:
    """A height map for each image, (N, 1, H, W) in [0, 1], by the diamond-square algorithm on a torus.

    `decay` is the factor by which the wobble falls from one scale to the next: large is smooth.
    """
    height, width = images.shape[-2:]
    size = 1 << (max(height, width, 2) - 1).bit_length()
    field = torch.zeros(len(images), size, size, device=images.device)
    step, wobble, level = size, 100.0, 0
    while step >= 2:
        _refine(field, step, wobble**2, generators.fork(level))
        step, wobble, level = step // 2, wobble / decay, level + 1
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return ((field - low) / (high - low))[:, None, :height, :width]


def _refine(field: Tensor, step: int, wobble: float, generators: Generators) -> None:
    """Fill the centres of the squares `step` apart, then the middles of their sides."""
    half, count = step // 2, field.shape[1] // step

    def mean(total: Tensor, stream: int) -> Tensor:
        return total / 4 + wobble * (generators.fork(stream).uniform(count, count) * 2 - 1)

    corners = field[:, ::step, ::step]
    rows = corners + corners.roll(-1, 1)
    field[:, half::step, half::step] = mean(rows + rows.roll(-1, 2), 0)
    centres = field[:, half::step, half::step]
    field[:, ::step, half::step] = mean(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2), 1)
    field[:, half::step, ::step] = mean(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1), 2)
