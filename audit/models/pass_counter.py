"""Counts the examples that go through a model."""

from __future__ import annotations

from dataclasses import dataclass

from audit.core.pass_count import PassCount


@dataclass
class PassCounter:
    """Counts the examples that go through a model.

    Attributes:
        forwards: Examples forwarded.
        backwards: Examples back-propagated.
    """

    forwards: int = 0
    backwards: int = 0

    @property
    def passes(self) -> PassCount:
        """The count so far."""
        return PassCount(self.forwards, self.backwards)

    def add(self, passes: PassCount) -> None:
        """Add to the count.

        Args:
            passes: Passes that were made elsewhere.
        """
        self.forwards += passes.forwards
        self.backwards += passes.backwards

    def reset(self) -> None:
        """Start again from zero."""
        self.forwards = self.backwards = 0
