"""A cell that several workers compute together."""

from __future__ import annotations

import time
from dataclasses import dataclass

from audit.core.errors import one_line
from audit.execution.workers import Computed, Event, Faulted, Lost
from audit.planning.plan import Task

NOTICE_SECONDS = 5.0
"""How long the others may take to notice that a worker is gone, before they are ended: an exchange over a connection
that was cut ends at once, one with a machine that lost its power, or between cards, only after minutes."""


@dataclass(eq=False)
class SharedCell:
    """How far such a cell is.

    Attributes:
        task: The cell.
        waiting: The workers that have not answered yet.
        done: Whether its evidence is there.
        failure: Why it will not be; empty while nothing speaks against it.
        gone: Whether a worker itself is known to be lost, and not only that an exchange failed.
        failed_at: When that came out, in seconds of the monotonic clock.
    """

    task: Task
    waiting: set[int]
    done: bool = False
    failure: str = ""
    gone: bool = False
    failed_at: float = 0.0

    def note(self, event: Event) -> None:
        """Take note of what became of a worker.

        Args:
            event: The answer of one that is `waiting`.
        """
        self.waiting.discard(event.worker)
        if isinstance(event, Computed):
            self.done = True
        elif isinstance(event, Lost | Faulted):
            self.failed_at = self.failed_at or time.monotonic()
            if isinstance(event, Lost) and not self.gone:  # says more than the others, whose exchange with it failed
                self.gone, self.failure = True, event.reason
            elif isinstance(event, Faulted):
                self.failure = self.failure or one_line(event.fault)

    @property
    def lost(self) -> bool:
        """Whether there will be no evidence, and all its workers are free or gone."""
        return bool(self.failure) and not self.done and not self.waiting

    @property
    def stragglers(self) -> tuple[int, ...]:
        """The workers that have not noticed in `NOTICE_SECONDS` that another is gone."""
        if not self.failure or time.monotonic() - self.failed_at < NOTICE_SECONDS:
            return ()
        return tuple(sorted(self.waiting))
