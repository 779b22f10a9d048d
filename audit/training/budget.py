"""A time budget as a number of epochs, so that the learning rate still comes to rest."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMED_STEPS = 4
_OVERRUN = 1.1


def affordable_epochs(budget: float, wanted: int, steps_per_epoch: int, *, step: Timed, probe: Timed) -> int:
    """How many of `wanted` epochs fit into `budget` seconds, at least one, going by a few steps and one probe."""
    step()
    one_step = min(step() for _ in range(_TIMED_STEPS))
    return max(1, min(wanted, int(budget / (one_step * steps_per_epoch + probe()))))


def spent(budget: float | None, seconds: list[float]) -> bool:
    """Whether another epoch like those of `seconds` would overrun the budget by more than a tenth."""
    return budget is not None and sum(seconds) + max(seconds) > budget * _OVERRUN


Timed = Callable[[], float]
"""Does something and gives the seconds it took."""


def timed(action: Callable[[], object]) -> Timed:
    """`action` with a clock around it."""

    def run() -> float:
        begun = time.monotonic()
        action()
        return time.monotonic() - begun

    return run
