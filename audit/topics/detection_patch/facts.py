"""Settings and facts of the study of patches on detectors."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.cell import StudySettings
from audit.core.evidence import Facts

PATCH_CONDITIONS = ("clean", "grey", "noise", "patch")
"""What lies where the patch does: nothing, plain grey, random pixels, the patch."""


class DetectionPatchSettings(StudySettings):
    """Settings of a cell.

    Attributes:
        kind: "hide", "hide-beside" or "fake".
        area: Share of the image, or of each object's box where the patch lies on the objects.
        attack: Settings of the attack.
        pictures: Images kept for the report.
    """

    kind: str
    area: float
    attack: dict[str, Any] = Field(default_factory=dict)
    pictures: int = 0


class DetectionPatchFacts(Facts):
    """What one patch was.

    Attributes:
        kind: "hide", "hide-beside" or "fake".
        painted: Share of the scored images that it covers, on average.
        made_on: Images it was made on, none of which is scored.
        faults: Images in which more than the patch had changed, and which were brought back.
    """

    kind: str
    painted: float
    made_on: int
    faults: int
