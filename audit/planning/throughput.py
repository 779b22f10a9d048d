"""How long passes through a model take: the link between what a plan counts and what a clock shows."""

from __future__ import annotations

from dataclasses import dataclass

from audit.core.pass_count import PassCount


@dataclass(frozen=True)
class Throughput:
    """How long a pass takes an image.

    Attributes:
        forward: Seconds of a forward pass.
        gradient: Seconds of a gradient, which is a forward and a backward pass.
    """

    forward: float
    gradient: float

    def seconds(self, passes: PassCount) -> float:
        """The seconds that passes take.

        Args:
            passes: Their number; each backward pass is counted as a forward pass too.
        """
        return (passes.forwards - passes.backwards) * self.forward + passes.backwards * self.gradient
