"""The unit of cost: examples forwarded and back-propagated. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PassCount:
    """What a computation costs in passes through a model.

    Attributes:
        forwards: Examples forwarded.
        backwards: Examples back-propagated.
    """

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: PassCount) -> PassCount:
        return PassCount(self.forwards + other.forwards, self.backwards + other.backwards)

    def __sub__(self, other: PassCount) -> PassCount:
        return PassCount(self.forwards - other.forwards, self.backwards - other.backwards)
