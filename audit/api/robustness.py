"""Robust accuracy under a battery of attacks, for one eps or for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.batteries import battery_named
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.custom_battery import custom_battery
from audit.adversarial.result import BatteryResult
from audit.adversarial.run_battery import run_battery
from audit.adversarial.targets import check_examples
from audit.api.inputs import AttackTargets, given_image_notes, make_batch
from audit.core.errors import NotApplicable
from audit.core.precise import precise
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.metrics.model_checks import doubts
from audit.models.ambient_torch import in_plain_torch
from audit.models.autotune import tune_execution
from audit.models.under_test import ModelUnderTest
from audit.training.surrogate import Surrogate, surrogate_of


@dataclass(frozen=True)
class Robustness:
    """The outcome of a battery of attacks under one threat model.

    Attributes:
        threat: The threat model.
        robust: Bool (N,), False where an attack broke the image or it is misclassified unchanged.
        adversarial: Float32 (N, C, H, W); the unchanged image where no attack broke it.
        broken_by: By image the first attack that broke it; "clean" where none was needed, None where none did.
        inconclusive: Why the evidence is weak; empty when it is not.
        attacks: By attack how many images it attacked and broke, and its cost.
        passes: The cost of all, in images.
        notes: How the model was read where that is not plain: a random one by its mean, probabilities as logits.
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
        """The share of images that no attack broke: an upper bound on the robust accuracy."""
        return float(precise(self.robust).mean())


@dataclass(frozen=True)
class RobustnessCurve:
    """The outcome of a battery of attacks for several eps of one norm.

    Attributes:
        norm: The norm.
        eps: Ascending, E of them.
        robust: Bool (E, N).
        minimal_eps: Float64 (N,), the distance of the nearest adversarial image; 0 where the unchanged image is
            misclassified, infinite where no attack broke it.
        inconclusive: Why the evidence is weak; empty when it is not.
        attacks: By attack how many images it attacked and broke, and its cost.
        passes: The cost of all, in images.
        notes: As of `Robustness`.
    """

    norm: Norm
    eps: tuple[float, ...]
    robust: Tensor
    minimal_eps: Tensor
    inconclusive: tuple[str, ...]
    attacks: tuple[AttackResult, ...]
    passes: PassCount
    notes: tuple[str, ...] = ()


@in_plain_torch
def robustness(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    battery: str = "quick",
    attacks: Sequence[str] | None = None,
    targets: AttackTargets = None,
    seed: int = 0,
) -> Robustness:
    """Attack every image under a threat model; an independent check decides whether an image is broken.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        threat: The norm and the eps.
        battery: quick, standard, autoattack or full.
        attacks: Names such as ["apgd-ce", "square"], run with their default settings in place of a battery.
        targets: None for untargeted attacks; int64 (N,) a class an image; bool (N, classes) a mask: an image is broken
            when the predicted class is in its mask.
        seed: Of all draws, which also follow the bytes of each image, never the batch.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: There is no such battery or attack, or a target is its image's label.
    """
    batch = make_batch(model, images, labels, targets)
    outcome = _attacked(model, batch, threat.norm, (threat.eps,), _battery_of(battery, attacks), seed)
    return Robustness(
        threat,
        outcome.robust,
        outcome.adversarial,
        outcome.broken_by,
        tuple(map(str, outcome.inconclusive)),
        outcome.rows,
        outcome.passes,
        (*given_image_notes(images), *map(str, outcome.notes)),
    )


@in_plain_torch
def robustness_curve(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    norm: Norm,
    eps: Sequence[float],
    *,
    battery: str = "standard",
    attacks: Sequence[str] | None = None,
    targets: AttackTargets = None,
    seed: int = 0,
) -> RobustnessCurve:
    """Attack every image at several eps, from the smallest on; an image that breaks is broken at every larger one.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        norm: The norm.
        eps: The eps.
        battery: quick, standard, autoattack or full.
        attacks: Names such as ["apgd-ce", "square"], run with their default settings in place of a battery.
        targets: As in `robustness`.
        seed: As in `robustness`.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: There is no such battery or attack, or a target is its image's label.
    """
    batch = make_batch(model, images, labels, targets)
    outcome = _attacked(model, batch, norm, tuple(eps), _battery_of(battery, attacks), seed)
    return RobustnessCurve(
        norm,
        outcome.eps,
        outcome.survived,
        outcome.minimal_eps,
        tuple(map(str, outcome.inconclusive)),
        outcome.rows,
        outcome.passes,
        (*given_image_notes(images), *map(str, outcome.notes)),
    )


def _battery_of(battery: str, attacks: Sequence[str] | None) -> Battery:
    if attacks is None:
        return battery_named(battery)
    names = [attacks] if isinstance(attacks, str) else attacks
    return custom_battery([AttackSpec(name) for name in names])


def _attacked(
    model: ModelUnderTest, batch: Batch, norm: Norm, eps: Sequence[float], battery: Battery, seed: int
) -> BatteryResult:
    """The battery, with a surrogate trained on these images where it wants one: any image of the ball that breaks the
    model counts, whatever it was made from. The checks of the model come before it, and their doubts with its own."""
    check_examples(model, batch)
    surrogate = _surrogate(model, batch, seed) if battery.wants_surrogate else None
    substitute = surrogate.model if surrogate else None
    with model.count() as counter:
        tune_execution(model)
        reasons = doubts(model, batch, seed, "attacks")
    outcome = run_battery(model, batch, norm, eps, battery=battery, seed=seed, surrogate=substitute)
    passes = outcome.passes + counter.passes + (surrogate.passes if surrogate else PassCount())
    return replace(outcome, passes=passes, doubts=tuple(dict.fromkeys((*outcome.doubts, *reasons))))


def _surrogate(model: ModelUnderTest, batch: Batch, seed: int) -> Surrogate | None:
    try:
        return surrogate_of(model, batch, seed=seed)
    except NotApplicable:
        return None  # The battery's own row says that there was none, and why.
