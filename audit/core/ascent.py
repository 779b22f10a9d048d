"""One step of projected gradient ascent, the same for attacks, adversarial training and explanation attacks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.core.threat import Norm, ThreatModel, norms
from audit.core.types import Images

Direction = Literal["box-aware", "unconstrained"]

L1_SHARE = 0.01
"""Share of coordinates that one l1 step moves (Tramer and Boneh 2019, arXiv:1904.13000)."""


def projected_step(
    images: Images,
    origin: Images,
    gradient: Images,
    threat: ThreatModel,
    size: float | Tensor,
    *,
    direction: Direction = "box-aware",
    project: bool = True,
) -> Images:
    """Move images by `size` in the direction of steepest ascent, then project them onto the threat model.

    Args:
        images: Where the step starts, float32 (N, C, H, W) in [0, 1].
        origin: The clean images, the centres of the balls, as `images`.
        gradient: Of the loss to raise with respect to `images`, as `images`.
        threat: The ball, whose norm also says in which norm the step is measured.
        size: The step's length in the norm of `threat`, a number or (N, 1, 1, 1).
        direction: Which direction counts as steepest, see `steepest_ascent`.
        project: False leaves the ball and keeps the images in [0, 1] alone.

    Returns:
        The images after the step, float32 (N, C, H, W) in [0, 1].
    """
    moved = images + size * steepest_ascent(threat.norm, gradient, images, direction)
    return threat.project(moved, origin) if project else moved.clamp(0, 1)


def steepest_ascent(norm: Norm, gradient: Images, images: Images, direction: Direction = "box-aware") -> Images:
    """The perturbation of norm 1 along which the loss rises fastest.

    The two directions differ in what they optimise, and so in their numbers for l2 and l1. Attacks use "box-aware":
    coordinates at 0 or 1 that the gradient pushes outwards are left out, because an l2 or l1 budget spent on them is
    lost when the image is clamped; an l1 step moves the 1% of coordinates with the largest gradients; NaN counts as
    zero. Training and explanation attacks use "unconstrained": the exact maximiser of a linear function over the unit
    ball, as in the published recipes, one coordinate for l1; NaN passes through its l2 form. For linf both are the
    sign of the gradient.

    Args:
        norm: The norm in which the perturbation has length 1.
        gradient: Of the loss, float32 (N, C, H, W).
        images: Where the gradient was taken, as `gradient`, in [0, 1]; not used by "unconstrained".
        direction: "box-aware" or "unconstrained".

    Returns:
        Perturbations, float32 (N, C, H, W); zero where the gradient is zero.
    """
    if direction == "unconstrained":
        return _linear_maximiser(norm, gradient)
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    if norm == "linf":
        return gradient.sign()
    outwards = ((gradient > 0) & (images >= 1)) | ((gradient < 0) & (images <= 0))
    free = gradient.masked_fill(outwards, 0.0)
    scaled = free / free.flatten(1).abs().amax(1).clamp(min=1e-38).view(-1, 1, 1, 1)
    if norm == "l2":
        return scaled / norms(scaled, "l2").clamp(min=1e-12).view(-1, 1, 1, 1)
    return _sparse(scaled)


def _linear_maximiser(norm: Norm, gradient: Images) -> Images:
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / norms(gradient, "l2").clamp(min=1e-30).view(-1, 1, 1, 1)
    flat = gradient.flatten(1)
    top = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top).sign()).view_as(gradient)


def _sparse(gradient: Images) -> Images:
    """Equal steps on the largest coordinates, of l1 norm 1 together."""
    flat = gradient.flatten(1)
    count = max(1, round(L1_SHARE * flat.shape[1]))
    top = flat.abs().topk(count, dim=1).indices
    signs = flat.gather(1, top).sign()
    moved = signs.abs().sum(1, keepdim=True).clamp(min=1)
    return torch.zeros_like(flat).scatter_(1, top, signs / moved).view_as(gradient)
