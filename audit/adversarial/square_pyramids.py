"""Square's proposals within an l2 or l1 ball: two-sided pyramids that take their budget from another window.

The l1 form measures every size by its sum instead (Croce and Hein 2021, arXiv:2103.01208, section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from audit.adversarial.windows import Window, fixed_window, random_window
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel, norms
from audit.core.types import Images

TILES = 5
"""The first perturbation is a grid of this many pyramids a side."""

POWER = {"l2": 2, "l1": 1}
"""The power in which each norm's budget adds up over pixels."""

_TINY = 1e-12


def pyramid_start(origin: Images, threat: ThreatModel, draws: Generators) -> Images:
    """A grid of pyramids of random signs, scaled to eps."""
    count, channels, height, width = origin.shape
    side = max(min(height, width) // TILES, 1)
    delta = torch.zeros_like(origin)
    for tile, (top, left) in enumerate(_grid(height, width, side)):
        window = fixed_window(slice(top, top + side), slice(left, left + side), count, height, width, origin.device)
        own = draws.fork(tile)
        delta = delta + pyramid(window, own.fork(0), threat.norm) * own.fork(1).signs(channels, 1, 1)
    return _scaled(delta, origin, threat)


def pyramid_proposal(best: Images, origin: Images, threat: ThreatModel, draws: Generators, area: Tensor) -> Images:
    """`best` with a new pyramid in one window, paid for by emptying another (section 3.3 of the paper)."""
    channels, height, width = origin.shape[1:]
    norm, power = threat.norm, POWER[threat.norm]
    side = (area * height * width).sqrt().round().long().clamp(min=3)
    side = (side + 1 - side % 2).clamp(max=min(height, width))
    target = random_window(side, draws.fork(0), height, width)
    source = random_window(side, draws.fork(1), height, width)
    delta = best - origin
    new = pyramid(target, draws.fork(2), norm) * draws.fork(3).signs(channels, 1, 1)
    new = new + delta * target.inside / (_TINY + _size(delta * target.inside, norm))
    unused = (threat.eps**power - norms(delta, norm) ** power).clamp(min=0).view(-1, 1, 1, 1) / channels
    budget = (unused + _size(delta * (target.inside | source.inside), norm) ** power) ** (1 / power)
    moved = delta.masked_fill(source.inside, 0.0)
    moved = torch.where(target.inside, new / (_TINY + _size(new, norm)) * budget, moved)
    return _scaled(moved, origin, threat)


def pyramid(window: Window, draws: Generators, norm: Norm) -> Tensor:
    """A positive and a negative pyramid side by side in the window, of norm 1, turned at random, (N, 1, H, W)."""
    turned = (draws.signs(1, 1) > 0).view(-1, 1, 1)
    across, down = window.columns[:, None, :], window.rows[:, :, None]
    along, beside = torch.where(turned, across, down), torch.where(turned, down, across)
    half = (window.side // 2).view(-1, 1, 1)
    first = along < half
    depth = torch.where(first, half, window.side.view(-1, 1, 1) - half)
    centre = depth // 2 + torch.where(first, 0, half)
    ring = torch.maximum((along - centre).abs(), (beside - half).abs())
    height = _tail(ring, half + 1) * window.inside[:, 0]
    upper, lower = height * first, height * ~first
    return (_unit(upper, norm) - _unit(lower, norm))[:, None] / 2 ** (1 / POWER[norm])


def _tail(ring: Tensor, end: Tensor) -> Tensor:
    """The sum of 1 / (k + 1)^2 from k = ring to end - 1."""
    most = torch.arange(1, 1 + 4096, device=ring.device, dtype=torch.float32)
    sums = torch.cat([torch.zeros(1, device=ring.device), (1 / most**2).cumsum(0)])
    return (sums[end.clamp(0, 4096)] - sums[ring.clamp(0, 4096)]).clamp(min=0)


def _grid(height: int, width: int, side: int) -> list[tuple[int, int]]:
    margin = [(size - side * (size // side)) // 2 for size in (height, width)]
    return [
        (margin[0] + row * side, margin[1] + column * side)
        for row in range(height // side)
        for column in range(width // side)
    ]


def _scaled(delta: Images, origin: Images, threat: ThreatModel) -> Images:
    size = norms(delta, threat.norm).clamp(min=_TINY).view(-1, 1, 1, 1)
    return (origin + delta * (threat.eps / size)).clamp(0, 1)


def _size(delta: Images, norm: Norm) -> Tensor:
    """The norm of each channel, (N, C, 1, 1)."""
    power = POWER[norm]
    return delta.abs().pow(power).sum((2, 3), keepdim=True).pow(1 / power)


def _unit(height: Tensor, norm: Norm) -> Tensor:
    power = POWER[norm]
    return height / height.abs().pow(power).sum((1, 2), keepdim=True).pow(1 / power).clamp(min=_TINY)
