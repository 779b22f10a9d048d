"""Projections onto a ball around an image, and onto what of it lies in the box [0, 1].

The nearest point of the ball, brought into the box, is not the nearest point of both: it gives away the part of eps
that the box cut off, much of it on black and white pixels. In l1 that weakens attacks (Croce and Hein 2021, "Mind the
box: l1-APGD for sparse adversarial attacks on image classifiers", arXiv:2103.01208).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_HUGE = 1e38
"""What is as far out as float32 reaches, and 0 when multiplied by 0."""
_Rows = Float[Tensor, "n values"]


def onto_l1_ball(delta: _Rows, eps: float) -> _Rows:
    """Project each row onto the l1 ball of radius eps around 0, by soft thresholding.

    The sort-based algorithm of Duchi et al. 2008, "Efficient projections onto the l1-ball for learning in high
    dimensions". Its running sum rounds, at 9,216 values by 3e-6 of eps, so what is left over is scaled away.

    Args:
        delta: Float32 (N, values).
        eps: The radius.
    """
    descending = delta.abs().sort(dim=1, descending=True).values
    count = torch.arange(1, delta.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    excess = (descending.cumsum(1) - eps) / count
    active = (descending > excess).sum(1, keepdim=True).clamp(min=1)
    threshold = excess.gather(1, active - 1).clamp(min=0)
    return _scaled(delta.sign() * (delta.abs() - threshold).clamp(min=0), eps, 1)


def onto_l2_ball_and_box(delta: _Rows, origin: _Rows, eps: float) -> _Rows:
    """The nearest perturbation whose l2 norm is at most eps and whose image lies in [0, 1].

    With a multiplier for the ball, each value is its own problem: t times what was wanted, but not more than there is
    room for in the box. As t rises from eps over the norm, values reach their room and stay there; the t that uses eps
    up on the others is a larger one, or the solution where no further value reaches its room. On a CPU that takes a few
    rounds; elsewhere each would wait for the device, and which values reach their room is found by sorting.

    Args:
        delta: Float32 (N, values).
        origin: The clean images, as `delta`, in [0, 1].
        eps: The radius.
    """
    wanted = delta.abs()
    room = torch.where(delta > 0, 1 - origin, origin)
    outside = wanted.minimum(room).square().sum(1, keepdim=True) > eps**2
    reach, squared, room_squared = room / wanted, wanted.square().clamp_(max=_HUGE), room.square()
    share = torch.where(outside, eps / wanted.norm(dim=1, keepdim=True).clamp(min=1e-12), 0.0)
    full = reach <= share if delta.device.type == "cpu" else _at_their_room(wanted, room, eps)
    while True:
        there = full.to(delta.dtype)
        left = (eps**2 - (room_squared * there).sum(1, keepdim=True)).clamp(min=0)
        free = (squared * (1 - there)).sum(1, keepdim=True).clamp(min=1e-30)
        share = torch.where(outside, (left / free).sqrt().maximum(share), 0.0)
        before, full = full, full | (reach <= share)
        if delta.device.type != "cpu" or torch.equal(before, full):
            break
    share = torch.where(outside, share, 1.0)
    return delta.sign() * _scaled((share * wanted).minimum(room), eps, 2)


def _at_their_room(wanted: _Rows, room: _Rows, eps: float) -> Tensor:
    """Which values reach their room before eps is used up, bool (N, values), by sorting.

    In the order of these multipliers t, the squared norm at each is the squared rooms up to there, and t^2 times what
    is wanted squared beyond. Sums of whole numbers, exact in any order, as CUDA has no deterministic one of floats
    that runs along: relative to the largest value wanted, with as many binary digits as their number leaves.
    """
    largest = wanted.amax(1, keepdim=True).clamp(min=1e-30)
    unit = wanted / largest
    reach = room / unit
    reaches, order = reach.sort(dim=1)
    digits = 2.0 ** (61 - wanted.shape[1].bit_length())
    filled, rising = ((part.square() * digits).to(torch.int64).gather(1, order) for part in (room, unit))
    beyond = rising.sum(1, keepdim=True) - rising.cumsum(1)
    norms = (filled.cumsum(1).to(wanted.dtype) + reaches.square() * beyond.to(wanted.dtype)) / digits
    count = (norms <= eps**2).sum(1, keepdim=True)
    last: Tensor = reaches.gather(1, (count - 1).clamp(min=0))
    return (reach <= last) & (count > 0)


def onto_l1_ball_and_box(delta: _Rows, origin: _Rows, eps: float) -> _Rows:
    """The nearest perturbation whose l1 norm is at most eps and whose image lies in [0, 1].

    With a multiplier m for the ball, each value is its own problem: what was wanted less m, at least 0 and not more
    than there is room for in the box. Their sum falls with m, in straight pieces that end where a value leaves its room
    or reaches 0: m is where it is eps.

    Args:
        delta: Float32 (N, values).
        origin: The clean images, as `delta`, in [0, 1].
        eps: The radius.
    """
    wanted = delta.abs()
    room = torch.where(delta > 0, 1 - origin, origin)
    whole = wanted.minimum(room).sum(1, keepdim=True)
    leaves = (wanted - room).clamp(min=0)
    ends, order = torch.cat([leaves, wanted], 1).sort(dim=1)
    slopes = torch.cat([torch.ones_like(wanted), -torch.ones_like(wanted)], 1).gather(1, order).cumsum(1)
    falls = slopes[:, :-1] * ends.diff(dim=1)  # over the piece that begins at each end
    sums = whole - torch.cat([torch.zeros_like(whole), falls.cumsum(1)], 1)
    piece = ((sums > eps).sum(1, keepdim=True) - 1).clamp(min=0)
    surplus, slope = sums.gather(1, piece) - eps, slopes.gather(1, piece).clamp(min=1)
    multiplier = (ends.gather(1, piece) + surplus / slope).where(whole > eps, 0.0)
    return delta.sign() * _scaled((wanted - multiplier).clamp(min=0).minimum(room), eps, 1)


def _scaled(rows: _Rows, eps: float, order: int) -> _Rows:
    """Rows whose norm exceeds eps, by rounding, made as long as eps; towards 0 nothing leaves the box."""
    size = torch.linalg.vector_norm(rows, ord=order, dim=1, keepdim=True)
    scale: Tensor = (eps / size.clamp(min=1e-12)).clamp(max=1)
    return rows * scale
