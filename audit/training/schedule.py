"""Learning rates as functions of progress: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from audit.config import Schedule

WARM_UP = 0.25
"""Share of the training in which one-cycle rises."""
_FIRST = 0.04
_STEPS = ((0.5, 1.0), (0.75, 0.1), (math.inf, 0.01))


def rate_factor(schedule: Schedule, progress: float) -> float:
    """The factor on the peak learning rate at `progress` in [0, 1] of all steps.

    `one-cycle` rises linearly over the first quarter and falls by a cosine to nothing (Smith 2018,
    arXiv:1803.09820); `cosine` only falls (arXiv:1608.03983); `step` is 1, then 0.1 from the half and 0.01
    from three quarters (as in arXiv:2002.11569); `constant` is 1.
    """
    if schedule == "cosine":
        return _cosine(progress)
    if schedule == "step":
        return next(factor for end, factor in _STEPS if progress < end)
    if schedule == "one-cycle":
        if progress < WARM_UP:
            return _FIRST + (1 - _FIRST) * progress / WARM_UP
        return _cosine((progress - WARM_UP) / (1 - WARM_UP))
    return 1.0


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
