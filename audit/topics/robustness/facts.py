"""Settings of the robustness study, and what it measures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.adversarial.attack_result import AttackResult
from audit.core.cell import StudySettings
from audit.core.evidence import Facts
from audit.core.note import Note

ADVERSARIAL_POSITIONS = "adversarial_positions"
"""The array that says which examples the arrays `adversarial` and `adversarial_logits` hold: positions in the audit
order, int64 (M,)."""
CLEAN = "clean"
"""The name, among the attacks, of images that were wrong before any attack."""


class RobustnessSettings(StudySettings):
    """Settings of a cell of attacks.

    Attributes:
        eps: Sizes of the ball; empty for that of the threat model alone.
        headline: The eps of the verdict, one of them; None for that of the threat model.
        kept: Adversarial images to store, of the first examples of the cell.
        sanity_checks: Whether the cell runs the sanity checks of the battery; False where an earlier one has.
        protocol: What `Battery.describe` gives: its attacks with all their settings and versions; None where only
            the name of the battery is known.
    """

    eps: tuple[float, ...] = ()
    headline: float | None = None
    kept: int = 64
    sanity_checks: bool = True
    protocol: list[Any] | None = None


class RobustnessFacts(Facts):
    """What a battery did to the examples of a cell.

    Attributes:
        norm: Norm of the ball.
        eps: Sizes of the ball, ascending: the rows of the arrays `robust` and `broken_by`.
        headline: The eps of the verdict.
        battery: Name of the battery.
        protocol: The battery in words.
        attacks: Names of its attacks, "clean" first: what the array `broken_by` counts.
        rows: What each attack did at each eps.
        inconclusive: Why this evidence is weak, in sentences; empty when it holds.
        notes: What a reader should know besides.
        gradient_health: Shares of gradients without information, by name.
        draws: Forwards that each logit is the mean of: above 1 for a model that is not deterministic.
        broken: Examples broken at the headline eps.
        survive_rounding: Those of them that are still broken once stored with 256 levels.
        runtime_rounding: How far a margin may move in another runtime of the same net, in logits; None where there is
            no such bound.
    """

    norm: str = ""
    eps: tuple[float, ...]
    headline: float = 0.0
    battery: str = ""
    protocol: str = ""
    attacks: tuple[str, ...] = ()
    rows: tuple[AttackResult, ...] = ()
    inconclusive: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    gradient_health: dict[str, float] = Field(default_factory=dict)
    draws: int = 1
    broken: int = 0
    survive_rounding: int = 0
    runtime_rounding: float | None = None
