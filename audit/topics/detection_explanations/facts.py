"""Facts of the studies of found boxes."""

from __future__ import annotations

from audit.core.evidence import Facts


class BoxFacts(Facts):
    """Which boxes were explained.

    Attributes:
        boxes: How many.
        least_score: The lowest score among them; 0 where there are none.
    """

    boxes: int
    least_score: float
