"""What a battery found: per example and eps, with what each attack did and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from audit.core.threat import Norm, ThreatModel
from audit.core.types import Images, PassCount


@dataclass(frozen=True)
class AttackResult:
    """One attack at one eps: examples `tried`, those it `broke`, proposals that left the ball (`faults`), its cost.

    `reason` says why it did not run, where it did not.
    """

    name: str
    attack: str
    needs: str
    settings: dict[str, Any]
    eps: float
    survivors: int
    tried: int
    broke: int = 0
    faults: int = 0
    passes: PassCount = field(default_factory=PassCount)
    reason: str = ""


@dataclass(frozen=True)
class BatteryResult:
    """The worst case over a battery's attacks.

    `eps` ascending; `attacks` the names, "clean" first; `survived` bool (E, N); `first_broken_by` int64 (E, N),
    an index into `attacks`, -1 where unbroken; `minimal_eps` float64 (N,), the smallest distance at which an
    adversarial example was verified (0 where the clean prediction counts as broken already, inf where none was
    found); `nearest` the images at that distance (clean where none); `rounding` bool (N,), whether those still
    break as 8-bit pictures; `inconclusive` why this evidence is weak, empty when it holds; `notes` what a reader
    should know besides; `health` the shares of gradients without information; `draws` the forwards each logit is the
    mean of, above 1 for a model that is not deterministic.
    """

    norm: Norm
    eps: tuple[float, ...]
    headline: float
    battery: str
    protocol: str
    attacks: tuple[str, ...]
    survived: Tensor
    first_broken_by: Tensor
    minimal_eps: Tensor
    clean: Images
    nearest: Images
    rounding: Tensor
    rows: tuple[AttackResult, ...]
    inconclusive: tuple[str, ...]
    notes: tuple[str, ...]
    health: dict[str, float]
    passes: PassCount
    draws: int = 1

    @property
    def threat(self) -> ThreatModel:
        """The headline's threat model."""
        return ThreatModel(self.norm, self.headline)

    @property
    def robust(self) -> Tensor:
        """Unbroken at the headline eps, bool (N,)."""
        return self.survived[self.eps.index(self.headline)]

    @property
    def adversarial(self) -> Images:
        """Adversarial examples within the headline eps; the clean image where none was found."""
        beyond = self.robust & self.minimal_eps.isfinite()
        if not bool(beyond.any()):
            return self.nearest
        return self.clean.where(beyond.view(-1, 1, 1, 1), self.nearest)

    @property
    def broken_by(self) -> tuple[str | None, ...]:
        """The attack that broke each image at the headline eps first, None where none did."""
        index = self.first_broken_by[self.eps.index(self.headline)].tolist()
        return tuple(self.attacks[i] if i >= 0 else None for i in index)
