"""What one attack of a battery did at one eps. Imports no torch, so that a finished run is read without."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.evidence import Facts
from audit.core.note import NO_NOTE, Note
from audit.core.pass_count import PassCount


class AttackResult(Facts):
    """What one attack of a battery did at one eps.

    Attributes:
        name: What the report calls it.
        attack: Its name in the registry.
        needs: What it asks of the model, such as "gradients" or "scores".
        settings: All of its settings.
        eps: The eps whose unbroken images it was given; None in evidence of a single eps.
        survivors: Images unbroken at that eps when it began.
        tried: Those of them that it ran on.
        broke: Those that it broke.
        faults: Proposals that left the ball or the box, or were not finite.
        reason: Why it did not run; empty where it did.
        forwards: Examples forwarded.
        backwards: Examples back-propagated.
    """

    name: str
    attack: str = ""
    needs: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    eps: float | None = None
    survivors: int = 0
    tried: int
    broke: int = 0
    faults: int = 0
    reason: Note = NO_NOTE
    forwards: int = 0
    backwards: int = 0

    @property
    def passes(self) -> PassCount:
        """What it cost."""
        return PassCount(self.forwards, self.backwards)

    def plus(self, other: AttackResult) -> AttackResult:
        """What the attack did to the images of both together.

        Args:
            other: What it did at the same eps to other images.
        """
        names = ("survivors", "tried", "broke", "faults", "forwards", "backwards")
        ran = self if self.tried or not other.tried else other  # only where it ran are all settings told
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        return ran.model_copy(update={**counts, "reason": self.reason or other.reason})
