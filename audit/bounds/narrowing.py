"""Counterexamples by random search that narrows around the best points, for boxes of few inputs.

Gradients of a net of ReLUs say little about where, beyond the next kinks, a constraint is met: in property 7 of ACAS Xu
it is in a small part of a box that is nearly the whole space. In few inputs, random points come near it. Around each of
the best further ones are drawn, ever nearer, and it gives way to a better one of its own alone, so that the search
stays spread over many places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audit.bounds.verification_query import BoxQuery

_DRAWN = 2**13
"""Points drawn to begin with."""
_PLACES = 256
"""Points searched around, over all conjunctions."""
_AROUND = 16
"""Points around each in a round."""
_ROUNDS = 30
_WIDTH, _SHRINKING = 0.25, 0.85
"""Standard deviation around a point in the first round, a share of the box, and what it is multiplied by in each."""


@torch.no_grad()
def narrowing_search(query: BoxQuery, low: Tensor, high: Tensor, *, seed: int, late: Callable[[], bool]) -> bool:
    """Draw points from parts of the box and search around those that come nearest to meeting each conjunction.

    Args:
        query: The box and what is to be met; it keeps a counterexample that is confirmed.
        low: Lower ends of the parts, all as likely, (N, D).
        high: Their upper ends.
        seed: Of the draws.
        late: Turns true when it is to stop.

    Returns:
        Whether there is a counterexample.
    """
    generator = torch.Generator().manual_seed(seed)
    part = torch.randint(len(low), (_DRAWN,), generator=generator)
    share = torch.rand(_DRAWN, low.shape[1], generator=generator)
    drawn = _inside(query, low[part].float() + (high - low)[part].float() * share)
    values = _worst(query, drawn)
    count = max(1, _PLACES // query.conjunctions)
    points = drawn[values.topk(count, dim=0, largest=False).indices.t()]  # (conjunctions, count, D)
    best = values.topk(count, dim=0, largest=False).values.t()
    width = query.near_high - query.near_low
    for step in range(_ROUNDS):
        met = best <= 0
        if bool(met.any()) and bool(query.broken(points[met]).any()):
            return True
        if late():
            return False
        noise = torch.randn(*points.shape[:2], _AROUND, points.shape[2], generator=generator)
        around = _inside(query, points[:, :, None] + noise * width * (_WIDTH * _SHRINKING**step))
        values = _worst(query, around.flatten(0, 2)).view(*around.shape[:3], -1)
        own = torch.stack([values[k, :, :, k] for k in range(len(values))])
        smallest, which = own.min(2)
        chosen = around.gather(2, which[:, :, None, None].expand(-1, -1, 1, points.shape[2]))[:, :, 0]
        better = smallest < best
        points, best = torch.where(better[:, :, None], chosen, points), torch.where(better, smallest, best)
    return False


def _inside(query: BoxQuery, points: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(points, query.near_low), query.near_high)


def _worst(query: BoxQuery, points: Tensor) -> Tensor:
    """The largest margin of each conjunction, (N, conjunctions); infinite where an output is no number."""
    return query.worst(query.margins(query.flat(points).double())).nan_to_num(nan=torch.inf)
