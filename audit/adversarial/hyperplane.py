"""The nearest point of a hyperplane inside the box, exactly, in any norm: one sort an example."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.threat import Norm
from audit.core.types import Images


def project_onto_hyperplane(points: Images, normal: Images, offset: Tensor, norm: Norm) -> Images:
    """The smallest perturbations of `points`, within the box, that reach `normal . x = offset`.

    `normal` is (N, C, H, W), `offset` (N,). Where the box does not reach the plane, the farthest step towards it.
    Source: the projections of FAB (Croce and Hein 2020, arXiv:1907.02044), solved on sorted break points.
    """
    weight, flat = normal.flatten(1), points.flatten(1)
    missing = offset - (weight * flat).sum(1)
    towards = weight.sign() * missing.sign()[:, None]
    room = torch.where(towards > 0, 1 - flat, flat)
    slope = weight.abs()
    lengths = _greedy(slope, room, missing.abs()) if norm == "l1" else _level(slope, room, missing.abs(), norm)
    return (towards * lengths).view_as(points)


def _level(slope: Tensor, room: Tensor, missing: Tensor, norm: Norm) -> Tensor:
    """t_i = min(level x rate_i, room_i) with sum slope_i t_i = missing: the rates are 1 for linf, the slope for l2.

    The sum is concave and piecewise linear in the level, so it is the least of its pieces, and the level the
    greatest of theirs.
    """
    rate = torch.ones_like(slope) if norm == "linf" else slope
    order = torch.where(slope > 0, room / rate.clamp(min=1e-30), torch.inf).argsort(dim=1)
    filled = (slope * room).gather(1, order)
    rising = (slope * rate).gather(1, order)
    full_before = filled.cumsum(1) - filled
    free_from = rising.flip(1).cumsum(1).flip(1)
    pieces = torch.where(free_from > 0, (missing[:, None] - full_before) / free_from.clamp(min=1e-30), 0.0)
    level = pieces.amax(1).masked_fill(missing >= filled.sum(1), torch.inf)
    return torch.minimum(level[:, None] * rate, room).where(slope > 0, 0.0)


def _greedy(slope: Tensor, room: Tensor, missing: Tensor) -> Tensor:
    """Fill the steepest coordinates first."""
    steepest, order = slope.sort(dim=1, descending=True)
    gains = steepest * room.gather(1, order)
    before = gains.cumsum(1) - gains
    wanted = ((missing[:, None] - before) / steepest.clamp(min=1e-30)).clamp(min=0)
    lengths = torch.minimum(wanted, room.gather(1, order)).where(steepest > 0, 0.0)
    return torch.zeros_like(slope).scatter_(1, order, lengths)
