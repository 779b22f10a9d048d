"""Settings and facts of the study of attacks on detectors."""

from __future__ import annotations

from audit.core.evidence import Facts


class DetectionAttackFacts(Facts):
    """What one attack at one eps was.

    Attributes:
        norm: The norm that bounds it.
        eps: The size of the ball, in units of pixel value.
        aim: What it wants; empty for noise.
        control: Whether it is the control that attacks have to beat.
        faults: Proposals that left the ball or the box and were brought back.
    """

    norm: str
    eps: float
    aim: str
    control: bool
    faults: int
