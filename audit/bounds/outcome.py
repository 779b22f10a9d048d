"""How far a proof may go, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Rung = Literal["interval-bounds", "crown", "crown-tightened", "alpha-crown", "branch-and-bound"]
RUNGS: tuple[Rung, ...] = ("interval-bounds", "crown", "crown-tightened", "alpha-crown", "branch-and-bound")
"""The bounds from the cheapest to the dearest; each is tried on what those before left open."""


@dataclass(frozen=True)
class Budget:
    """How far a proof may go.

    Attributes:
        rungs: The bounds to try.
        problems: Sub-problems of branch and bound an image.
        seconds: Seconds an image; None for no limit. With a limit the answer depends on the machine.
    """

    rungs: Sequence[Rung] = RUNGS
    problems: int = 2000
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What is known of one image.

    Attributes:
        verdict: "proven", "broken" or "open".
        rung: The bound that proved it, or whose search broke it; None where it is open.
        bound: The smallest lower bound of a margin that was reached, in logits.
        problems: Sub-problems of branch and bound.
        seconds: Seconds that the image took, an equal share of what images took together.
        adversarial: The image that breaks the net, (C, H, W); None without one.
    """

    verdict: Literal["proven", "broken", "open"] = "open"
    rung: Rung | None = None
    bound: float = float("-inf")
    problems: int = 0
    seconds: float = 0.0
    adversarial: Tensor | None = None
