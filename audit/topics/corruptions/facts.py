"""What the corruption study measures besides its values."""

from __future__ import annotations

from audit.core.evidence import Facts


class CorruptionFacts(Facts):
    """The corruption of a cell.

    Attributes:
        severity: 1 to 5.
        group: The kind of corruption, such as "blur" or "weather".
    """

    severity: int
    group: str
