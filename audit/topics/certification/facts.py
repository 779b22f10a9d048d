"""What the certification study measures besides the radii."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.cell import StudySettings
from audit.core.evidence import Facts


class CertificationFacts(Facts):
    """What is certified.

    Attributes:
        norm: Norm of the radii.
        certifies: The classifier that is certified: the model itself, or a smoothed one.
        settings: Settings of the method.
        abstained: Images on which the method gives no class.
        eps: Sizes of the ball of linear bounds: the rows of the arrays `verdicts` and `proven_by`.
        rungs: The bounds that were tried: what `proven_by` counts.
    """

    norm: str
    certifies: str
    settings: dict[str, Any] = Field(default_factory=dict)
    abstained: int = 0
    eps: tuple[float, ...] = ()
    rungs: tuple[str, ...] = ()


class BoundsSettings(StudySettings):
    """Settings of a cell that proves by linear bounds.

    Attributes:
        eps: Sizes of the ball, ascending.
        rungs: The bounds to try, from the cheapest on.
        problems: Sub-problems of branch and bound an image and an eps, at most.
        attacked_before: Images that the attacks of the input "robustness" hold before the first of the cell.
    """

    eps: tuple[float, ...] = ()
    rungs: tuple[str, ...] = ()
    problems: int = 0
    attacked_before: int = 0


THE_MODEL = "the model itself"
"""The value of `CertificationFacts.certifies` of certificates that attacks on the model can be compared with."""
LINEAR_BOUNDS = "linear-bounds"
"""The method of a cell that proves by linear bounds."""
OPEN, PROVEN, BROKEN = 0, 1, 2
"""The values of the array `verdicts`."""
