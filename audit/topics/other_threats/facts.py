"""Settings of the study of other threats, and what it measures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.cell import StudySettings
from audit.core.evidence import Facts

PART_OF_THREATS = "other-threats-part"
"""The study whose cells try a threat on some of the images, or a patch towards some of the classes, where a cell joins
several."""
MIN_OTHER_THREAT_IMAGES = 8
"""Least number of images for a change that is made on half of them and scored on the other half."""
BY_IMAGE = ("spatial", "transfer")
"""The threats that are tried on each image by itself."""
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
        classes: Of a part, those of them that it tries: the first, and that after the last; None for all.
    """

    attack: dict[str, Any] = Field(default_factory=dict)
    rotation: float | None = None
    translation: int | float | None = None
    area: float | None = None
    targets: int = 0
    classes: tuple[int, int] | None = None


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


class PatchFacts(Facts):
    """The best of the patches towards some classes.

    Attributes:
        label: Its class, by position in the model's order.
        moved: Share of the images it was made on that it sends there, in [0, 1]; None where all are of that class.
    """

    label: int
    moved: float | None
