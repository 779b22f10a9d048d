"""How easily is it fooled: the worst case over a battery of attacks, for one eps or a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from audit.adversarial.batteries import AttackSpec, Battery, battery_named, custom_battery
from audit.adversarial.result import AttackResult, BatteryResult
from audit.adversarial.run_battery import check_examples, run_battery
from audit.api.inputs import Targets, make_batch
from audit.core.errors import NotApplicable
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest
from audit.training.surrogate import Surrogate, surrogate_of


@dataclass(frozen=True)
class Robustness:
    """What a battery found under one threat model.

    `robust` bool (N,), False where the clean image counts as broken already; `adversarial` (N, C, H, W), the
    clean image where none was found; `broken_by` the attack that broke each first ("clean" where none was
    needed), None where none did; `inconclusive` why the evidence is weak, empty when it holds; `attacks` what
    each attack was given, broke and cost; `passes` the whole cost in examples; `notes` how the model was read where
    that is not plain: a random one by its mean, probabilities as logits.
    """

    threat: ThreatModel
    robust: Tensor
    adversarial: Images
    broken_by: tuple[str | None, ...]
    inconclusive: tuple[str, ...]
    attacks: tuple[AttackResult, ...]
    passes: PassCount
    notes: tuple[str, ...] = ()

    @property
    def robust_accuracy(self) -> float:
        """The share unbroken by every attack: an upper bound on the truth."""
        return float(self.robust.double().mean())


@dataclass(frozen=True)
class RobustnessCurve:
    """What a battery found over several eps of one norm.

    `eps` ascending; `robust` bool (E, N); `minimal_eps` float64 (N,), the distance of the nearest adversarial
    example found (0 where the clean image is broken, inf where none was); the rest as in `Robustness`.
    """

    norm: Norm
    eps: tuple[float, ...]
    robust: Tensor
    minimal_eps: Tensor
    inconclusive: tuple[str, ...]
    attacks: tuple[AttackResult, ...]
    passes: PassCount


def robustness(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    battery: str = "quick",
    attacks: Sequence[str] | None = None,
    targets: Targets = None,
    seed: int = 0,
) -> Robustness:
    """Attack every image under `threat`; success is judged by an independent verifier.

    `images` float (N, C, H, W) in [0, 1], `labels` whole numbers (N,). `targets`: None is untargeted; int64
    (N,) one class an image; bool (N, classes) a mask: an image is broken when the predicted class is in its
    mask. `battery` is quick, standard, autoattack or full; `attacks`, names such as ["apgd-ce", "square"], run with
    their default settings in its place. Draws follow the seed and each image's bytes, never the batch. Raises
    DataError, UsageError.
    """
    batch = make_batch(model, images, labels, targets)
    found = _attacked(model, batch, threat.norm, (threat.eps,), _chosen(battery, attacks), seed)
    return Robustness(
        threat,
        found.robust,
        found.adversarial,
        found.broken_by,
        found.inconclusive,
        found.rows,
        found.passes,
        found.notes,
    )


def robustness_curve(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    norm: Norm,
    eps: Sequence[float],
    *,
    battery: str = "standard",
    attacks: Sequence[str] | None = None,
    targets: Targets = None,
    seed: int = 0,
) -> RobustnessCurve:
    """Attack every image at every eps of `norm`, swept upward over the survivors. Arguments as in `robustness`."""
    batch = make_batch(model, images, labels, targets)
    found = _attacked(model, batch, norm, tuple(eps), _chosen(battery, attacks), seed)
    return RobustnessCurve(
        norm, found.eps, found.survived, found.minimal_eps, found.inconclusive, found.rows, found.passes
    )


def _chosen(battery: str, attacks: Sequence[str] | None) -> Battery:
    if attacks is None:
        return battery_named(battery)
    names = [attacks] if isinstance(attacks, str) else attacks
    return custom_battery([AttackSpec(name) for name in names])


def _attacked(
    model: ModelUnderTest, batch: Batch, norm: Norm, eps: Sequence[float], battery: Battery, seed: int
) -> BatteryResult:
    """The battery, with a surrogate taught on these images where it wants one: any image of the ball that breaks the
    model counts, whatever it was made from."""
    check_examples(model, batch)
    taught = _surrogate(model, batch, seed) if battery.wants_surrogate else None
    found = run_battery(model, batch, norm, eps, battery=battery, seed=seed, surrogate=taught.model if taught else None)
    return replace(found, passes=found.passes + taught.passes) if taught else found


def _surrogate(model: ModelUnderTest, batch: Batch, seed: int) -> Surrogate | None:
    try:
        return surrogate_of(model, batch, seed=seed)
    except NotApplicable:
        return None  # The battery's own row says that there was none, and why.
