"""How far a run is that goes on, as its page says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiveRun:
    """How far a run is.

    Attributes:
        done: Cells done.
        total: Cells in all, at most.
        current: The cell that is computed now.
        seconds: After how many the page loads itself again.
    """

    done: int
    total: int
    current: str
    seconds: int = 5
