"""What a battery measured: per example and eps, with what each attack did and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.row_flags import row_flags
from audit.core.note import NO_NOTE, Note, note
from audit.core.registry import Method
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Images, PassCount


def unfit_norm(norms: Sequence[str], norm: str) -> Note:
    """Why an attack cannot run: it has no version for the norm.

    Args:
        norms: Those it exists for.
        norm: The norm that was asked for.
    """
    return note("attack_norm", "This attack exists for {norms}, not for {norm}.", norms=", ".join(norms), norm=norm)


def unfit_reason(method: Method, threat: ThreatModel, no_gradient_reason: Note) -> Note:
    """Why an attack cannot run on a model; empty where it can.

    Args:
        method: The attack.
        threat: The norm and eps of the ball.
        no_gradient_reason: Why the model has no gradient, empty where it has one.
    """
    if method.facts["needs"] == "gradients" and no_gradient_reason:
        return no_gradient_reason
    norms = method.facts["norms"]
    if not norms:
        return note(
            "attack_of_other_threat",
            "This attack is of a threat of its own ({threat}): the study other-threats runs it.",
            threat=str(method.facts["threat"]),
        )
    return NO_NOTE if threat.norm in norms else unfit_norm(norms, threat.norm)


@dataclass(frozen=True)
class BatteryResult:
    """The worst case over a battery's attacks, over E eps and N examples.

    Attributes:
        norm: The norm of the ball.
        eps: Ascending.
        headline: The eps of the verdict, one of `eps`.
        battery: The battery's name.
        protocol: Its attacks in words.
        attacks: Their names, "clean" first.
        survived: Unbroken at each eps, bool (E, N).
        first_broken_by: Index into `attacks`, -1 where unbroken, int64 (E, N).
        minimal_eps: The smallest distance of a verified adversarial example, float64 (N,): 0 where the clean
            prediction counts as broken already, inf where there is none.
        clean: The clean images, float32 (N, C, H, W).
        nearest: The images at `minimal_eps`; clean where there is none.
        rounding: Whether those still break as 8-bit pictures, bool (N,).
        margin: The largest margin met within the headline eps, (N,): the highest logit that counts as broken less the
            highest that does not.
        rows: What each attack did.
        doubts: Why this evidence is weak whatever the attacks did, empty when it is not.
        notes: What a reader should know besides.
        health: Shares of gradients without information, by name.
        passes: The whole cost.
        draws: Forwards that each logit is the mean of, above 1 for a model that is not deterministic.
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
    margin: Tensor
    rows: tuple[AttackResult, ...]
    doubts: tuple[Note, ...]
    notes: tuple[Note, ...]
    health: dict[str, float]
    passes: PassCount
    draws: int = 1

    @property
    def inconclusive(self) -> tuple[Note, ...]:
        """Why this evidence is weak, empty when it holds."""
        flags = row_flags([(self.rows, len(self.minimal_eps))])
        return tuple(dict.fromkeys((*self.doubts, *(flag.sentence for flag in flags))))

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
