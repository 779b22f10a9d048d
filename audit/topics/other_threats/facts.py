"""Settings of the study of other threats, and what it measures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.cell import StudySettings
from audit.core.evidence import Facts

TRANSFER_STEPS = 20
"""Steps of MI-FGSM on the surrogate."""


class OtherThreatsSettings(StudySettings):
    """Settings of a cell; those of the other threats are unset.

    Attributes:
        attack: Settings of the attack.
        rotation: Largest rotation, in degrees.
        translation: Largest shift, in pixels.
        area: The patch as a share of the image.
        targets: Classes that a patch is tried towards; 0 for any other class than the right one.
    """

    attack: dict[str, Any] = Field(default_factory=dict)
    rotation: float | None = None
    translation: int | float | None = None
    area: float | None = None
    targets: int = 0


class OtherThreatsFacts(Facts):
    """What one threat was, and how many images it was scored on.

    Attributes:
        threat: Its limits in words.
        target: The class it aims at; empty for any other.
        made_on: Images it was made on, none of which is scored.
        made_by: Architecture of the surrogate; empty without one.
        agreement: Share of unseen images on which surrogate and model predict one class.
        scored: Images it is scored on.
        right: Those of them that were right before.
        control: Those of them still right under a blind change of the same size.
        faults: Images that left the limits.
        draws: Forwards that each logit is the mean of: above 1 for a model that is not deterministic.
        painted: The share of the image that a patch really covers; None for another threat.
    """

    threat: str
    target: str
    made_on: int
    made_by: str
    agreement: float | None
    scored: int
    right: int
    control: int
    faults: int
    draws: int = 1
    painted: float | None = None
