"""Projected gradient descent: random starts, restarts, and each example leaving the batch when it breaks."""

from __future__ import annotations

from torch import Tensor

from audit.attacks.steps import Aiming, Count, Positive, uphill, whole_goal
from audit.models.under_test import Loss, ModelUnderTest
from audit.passes.active import Move, Slots, Start, State, Step, search
from audit.passes.losses import LossName, loss_named, violated
from audit.passes.restarts import until_broken
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch, ClassMask, Images


@attack(reference="arXiv:1706.06083", needs="gradients", norms=("linf", "l2", "l1"))
def pgd(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: Count = 40,
    relative_step: Positive = 0.1,
    restarts: Count = 1,
    loss: LossName = "ce",
    random_start: bool = True,
) -> Images:
    """Projected gradient ascent on the loss from random points of the ball (Madry et al. 2018).

    `relative_step` is the step in units of eps. Without `random_start` the first start is the image itself;
    later restarts are always random.
    """
    step = ascent(model, threat, loss_named(loss, len(model.classes)), relative_step * threat.eps)

    def attempt(part: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        start = starting(threat, at_random=random_start or number > 0)
        return search(model, part, draws, start=start, step=step, steps=steps)

    return until_broken(model, batch, generators, attempt, attempts=restarts)


def starting(threat: ThreatModel, *, at_random: bool) -> Start:
    """Where a search begins: at a random point of the ball, or at the image itself."""

    def start(origin: Images, goal: ClassMask, generators: Generators) -> State:
        return {"images": threat.random_start(origin, generators) if at_random else origin.clone()}

    return start


def ascent(model: ModelUnderTest, threat: ThreatModel, loss: Loss, size: float, aim: Aiming = whole_goal) -> Step:
    """One projected step of length `size` up the gradient of `loss(logits, aim(slots))`."""

    def step(slots: Slots) -> Move:
        shown = slots.images
        found = model.loss_gradient(shown, aim(slots), loss)
        moved = threat.project(shown + size * uphill(threat.norm, found.gradient, shown), slots.origin)
        return Move(shown, violated(found.logits, slots.goal), {**slots.state, "images": moved})

    return step
