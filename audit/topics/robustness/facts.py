"""Settings of the robustness study, and what it measures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.adversarial.attack_result import AttackResult
from audit.core.cell import Cell, StudySettings
from audit.core.evidence import Facts
from audit.core.note import Note
from audit.core.threat_format import Norm

ADVERSARIAL_POSITIONS = "adversarial_positions"
"""The array that says which examples the arrays `adversarial` and `adversarial_logits` hold: positions in the audit
order, int64 (M,)."""
CLEAN = "clean"
"""The name, among the attacks, of images that were wrong before any attack."""
PART_STUDIES = EXAMINATION, STRETCH, CHOICE = "battery-examination", "battery-stretch", "battery-choice"
"""The studies whose cells a cell of attacks joins where its images are cut into chunks."""


class RobustnessSettings(StudySettings):
    """Settings of a cell of attacks.

    Attributes:
        eps: Sizes of the ball; empty for that of the threat model alone.
        headline: The eps of the verdict, one of them; None for that of the threat model.
        kept: Adversarial images to store, of the first examples of the cell.
        sanity_checks: Whether the cell runs the sanity checks of the battery; False where an earlier one has.
        protocol: What `Battery.describe` gives: its attacks with all their settings and versions; None where only
            the name of the battery is known.
        chunk: Most images in a part, where the cell joins parts; 0 where it runs the battery itself.
    """

    eps: tuple[float, ...] = ()
    headline: float | None = None
    kept: int = 64
    sanity_checks: bool = True
    protocol: list[Any] | None = None
    chunk: int = 0


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
        rows_judged: Whether those say too what the rows alone tell, as evidence of earlier versions does; where they do
            not, the check judges the rows of all cells together.
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
    rows_judged: bool = True
    notes: tuple[Note, ...] = ()
    gradient_health: dict[str, float] = Field(default_factory=dict)
    draws: int = 1
    broken: int = 0
    survive_rounding: int = 0
    runtime_rounding: float | None = None


class StretchSettings(RobustnessSettings):
    """Settings of some attacks of a battery on a chunk of its images.

    Attributes:
        runs: Position of the first run in the battery's schedule, and that after the last.
    """

    runs: tuple[int, int]


class ChoiceSettings(RobustnessSettings):
    """Settings of the choice of the images that an attack takes.

    Attributes:
        run: Its position in the battery's schedule.
    """

    run: int


class ExaminationFacts(Facts):
    """What a battery measures of a model before its attacks, see `audit.adversarial.sanity.SanityReport`.

    Attributes:
        size: Images of the sanity checks; 0 where they did not run.
        health: Shares of gradients without information, by name.
        no_gradient_reason: Why there is no gradient; empty where there is one.
        logit_noise: Largest change of a logit on a second forward, over the logits' spread.
        unbroken: Share that a change large enough to paint any image grey did not break.
        chance: The largest such share that is no failure.
    """

    size: int
    health: dict[str, float]
    no_gradient_reason: Note
    logit_noise: float
    unbroken: float
    chance: float


class StretchFacts(Facts):
    """What attacks did to a chunk of images.

    Attributes:
        rows: Of each attack at each eps.
    """

    rows: tuple[AttackResult, ...]


def part_name(start: int, number: int) -> str:
    """The name of a stretch among the inputs of the cell that joins it.

    Args:
        start: Position of the first image of its chunk in the audit order.
        number: Its place among the stretches of the chunk, from 0.
    """
    return f"part {start}.{number}"


def asked_threat(cell: Cell) -> tuple[Norm, tuple[float, ...], float]:
    """The norm, the sizes of the ball, ascending, and that of the verdict.

    Args:
        cell: A cell of attacks.
    """
    settings, threat = RobustnessSettings.of(cell), cell.threat or {}
    eps = tuple(sorted(set(settings.eps or (float(threat["eps"]),))))
    headline = threat.get("eps", max(eps)) if settings.headline is None else settings.headline
    return threat["norm"], eps, float(headline)
