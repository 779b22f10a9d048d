"""What one attack of a battery did at one eps. Imports no torch, so that a finished run is read without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from audit.core.evidence import Facts
from audit.core.note import NO_NOTE, Note

if TYPE_CHECKING:
    from audit.core.types import PassCount


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
        from audit.core.types import PassCount

        return PassCount(self.forwards, self.backwards)
