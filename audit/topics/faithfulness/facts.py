"""Settings of the faithfulness studies, and what they measure besides the curves."""

from __future__ import annotations

from typing import Literal

from audit.core.cell import StudySettings
from audit.core.evidence import Facts
from audit.core.note import NO_NOTE, Note


class FaithfulnessSettings(StudySettings):
    """Settings of deletion and insertion.

    Attributes:
        steps: Equal steps over all pixels.
        fills: What replaces missing pixels, each in turn.
        output: The output that is followed: "logit", "probability" or "log-probability".
        random_orders: Number of random orders that the control averages.
        blurred: Whether the map blurred is a control.
    """

    steps: int = 24
    fills: tuple[str, ...] = ("mean", "blur")
    output: Literal["logit", "probability", "log-probability"] = "probability"
    random_orders: int = 2
    blurred: bool = True


class FaithfulnessFacts(Facts):
    """How the curves were measured; areas of different protocols must not be compared.

    Attributes:
        protocol: The protocol in words.
        steps: Equal steps over all pixels.
        fills: What replaced missing pixels, each in turn; one empty name in evidence that does not say.
        output: The output that was followed.
        random_orders: Number of random orders that the control averages.
        blurred: Whether the map blurred is a control.
    """

    protocol: Note = NO_NOTE
    steps: int = 0
    fills: tuple[str, ...] = ("",)
    output: str = ""
    random_orders: int = 0
    blurred: bool = True
