"""The time that a run may take, and the order that it then goes by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from audit.planning.cost import max_task_passes
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.results.run_results import Cut

GRADIENT_COST = 2
"""What a back-propagated image costs beside a forwarded one."""
REPORT_SHARE, REPORT_SECONDS = 0.05, 10.0
"""The share of its time that a run keeps for the report, and the most of it in seconds."""


class RunClock:
    """Tells a run when to stop: its time, which begins here, is over, or whoever started it says so."""

    def __init__(self, within: float | None, should_stop: Callable[[], bool]) -> None:
        """Start the clock.

        Args:
            within: Seconds that the run may take, its report included; None for as long as it needs.
            should_stop: Whether whoever started the run asked to stop.
        """
        self._began, self._within, self._should_stop = time.monotonic(), within, should_stop

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was started."""
        return time.monotonic() - self._began

    def cut_by(self) -> Cut:
        """What ends the run now; empty where nothing does."""
        if self._should_stop():
            return "user"
        if self._within is None:
            return ""
        kept = min(REPORT_SHARE * self._within, REPORT_SECONDS)
        return "time" if self.elapsed >= self._within - kept else ""

    @property
    def limited(self) -> bool:
        """Whether the time of the run may end."""
        return self._within is not None


def pass_cost(identity: RunIdentity) -> Callable[[Task], float]:
    """What orders the cells of a run whose time may end: their passes at most, infinite where they are not known.

    Args:
        identity: Identities and sizes of the data and the model.
    """

    def cost(task: Task) -> float:
        passes = max_task_passes(task, identity)
        return math.inf if passes is None else passes.forwards + GRADIENT_COST * passes.backwards

    return cost
