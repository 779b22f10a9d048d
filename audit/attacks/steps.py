"""What gradient attacks share: the norm-wise step, and the types of their settings."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audit.threat import Norm, norms
from audit.types import Images

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

L1_SHARE = 0.01
"""Share of coordinates that one l1 step moves (Tramer and Boneh 2019, arXiv:1904.13000)."""


def uphill(norm: Norm, gradient: Images, images: Images) -> Images:
    """The perturbation of norm 1 along which the loss rises fastest without leaving the box.

    Coordinates already at 0 or 1 and pushed outwards are left out: spending an l2 or l1 budget on them is
    lost when the image is clamped. NaN gradients count as zero, and a zero gradient gives a zero step.
    """
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    if norm == "linf":
        return gradient.sign()
    outwards = ((gradient > 0) & (images >= 1)) | ((gradient < 0) & (images <= 0))
    free = gradient.masked_fill(outwards, 0.0)
    scaled = free / free.flatten(1).abs().amax(1).clamp(min=1e-38).view(-1, 1, 1, 1)
    if norm == "l2":
        return scaled / norms(scaled, "l2").clamp(min=1e-12).view(-1, 1, 1, 1)
    return _sparse(scaled)


def _sparse(gradient: Images) -> Images:
    flat = gradient.flatten(1)
    count = max(1, round(L1_SHARE * flat.shape[1]))
    top = flat.abs().topk(count, dim=1).indices
    signs = flat.gather(1, top).sign()
    moved = signs.abs().sum(1, keepdim=True).clamp(min=1)
    return torch.zeros_like(flat).scatter_(1, top, signs / moved).view_as(gradient)


def alive(broken: Tensor) -> Tensor:
    """Positions of the examples still to be attacked, int64."""
    return (~broken).nonzero().flatten()
