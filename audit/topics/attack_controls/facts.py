"""What the sanity checks of attacks measure besides their counts."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from audit.core.cell import StudySettings
from audit.topics.model_sanity.facts import SuspicionFacts


class AttackControlsSettings(StudySettings):
    """Settings of a cell.

    Attributes:
        eps: Sizes of the ball, over which the share of broken images must grow.
        pgd: Version of the PGD that is compared with weaker attacks.
        protocol: What `Battery.describe` gives; None where only the name of the battery is known.
    """

    eps: tuple[float, ...] = ()
    pgd: str = ""
    protocol: list[Any] | None = None


class AttackControlsFacts(SuspicionFacts):
    """The attack that the sanity checks compare with; evidence of earlier versions holds what they failed, too.

    Attributes:
        pgd: Settings of that attack.
        effort_not_declared: Attacks that were not given twice the effort, for none of their settings is declared to
            be effort.
    """

    model_config = ConfigDict(extra="forbid")

    pgd: dict[str, Any] = Field(default_factory=dict)
    effort_not_declared: tuple[str, ...] = ()
