"""Auto-PGD with cross-entropy, with the DLR loss, and with the targeted DLR loss: no step size to tune."""

from __future__ import annotations

from torch import Tensor

from audit.adversarial.auto_pgd import run_apgd
from audit.adversarial.gradient_step import PositiveInt, ranked_targets, single_target
from audit.adversarial.restarts import with_restarts
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.losses import dlr_targeted, loss_named
from audit.models.under_test import Loss, ModelUnderTest


@attack(reference="arXiv:2003.01690", needs="gradients", norms=("linf", "l2", "l1"))
def apgd_ce(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    give_up: bool = False,
) -> Images:
    """Auto-PGD on cross-entropy from random points of the ball (Croce and Hein 2020).

    `give_up` leaves an example early where the pace of its margin would not break it in the steps that remain.
    """
    return _restarted(model, batch, threat, generators, loss_named("ce", len(model.classes)), steps, restarts, give_up)


@attack(reference="arXiv:2003.01690", needs="gradients", norms=("linf", "l2", "l1"))
def apgd_dlr(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    give_up: bool = False,
) -> Images:
    """Auto-PGD on the difference of logits ratio, which no scaling flattens; on two classes, on the margin."""
    return _restarted(model, batch, threat, generators, loss_named("dlr", len(model.classes)), steps, restarts, give_up)


@attack(reference="arXiv:2003.01690", needs="gradients", norms=("linf", "l2", "l1"))
def apgd_t(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    give_up: bool = False,
) -> Images:
    """Auto-PGD towards each of the likeliest `targets` classes of the goal in turn, on the targeted DLR loss."""
    classes = ranked_targets(model, batch, targets)

    def attempt(part: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        given = {"target": classes[index.to(classes.device), number]}
        return run_apgd(
            model, part, threat, draws, loss=dlr_targeted, steps=steps, aim=single_target, given=given, give_up=give_up
        )

    return with_restarts(model, batch, generators, attempt, attempts=classes.shape[1])


def _restarted(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    loss: Loss,
    steps: int,
    restarts: int,
    give_up: bool,
) -> Images:
    def attempt(part: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        return run_apgd(model, part, threat, draws, loss=loss, steps=steps, give_up=give_up)

    return with_restarts(model, batch, generators, attempt, attempts=restarts)
