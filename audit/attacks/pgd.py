"""Projected gradient descent: random starts, restarts, and each example leaving the batch when it breaks."""

from __future__ import annotations

from torch import Tensor

from audit.adversarial.active_set import SearchState, Start, State, Step, StepResult, run_search
from audit.adversarial.gradient_step import PositiveFloat, PositiveInt, TargetFn, any_goal_class
from audit.adversarial.restarts import with_restarts
from audit.core.ascent import projected_step
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images
from audit.models.losses import LossName, is_adversarial_logits, loss_named
from audit.models.under_test import Loss, ModelUnderTest


@attack(
    reference="arXiv:1706.06083",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=lambda s: (s["restarts"] * (s["steps"] + 1), s["restarts"] * s["steps"]),
    effort=("steps", "restarts"),
)
def pgd(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 40,
    relative_step: PositiveFloat = 0.1,
    restarts: PositiveInt = 1,
    loss: LossName = "ce",
    random_start: bool = True,
) -> Images:
    """Projected gradient ascent on the loss from random points of the ball (Madry et al. 2018).

    `relative_step` is the step in units of eps. Without `random_start` the first start is the image itself;
    later restarts are always random.
    """
    step = pgd_step(model, threat, loss_named(loss, len(model.classes)), relative_step * threat.eps)

    def attempt(part: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        start = initial_point(threat, at_random=random_start or number > 0)
        return run_search(model, part, draws, start=start, step=step, steps=steps)

    return with_restarts(model, batch, generators, attempt, attempts=restarts)


def initial_point(threat: ThreatModel, *, at_random: bool) -> Start:
    """Where a search begins: at a random point of the ball, or at the image itself."""

    def start(origin: Images, goal: ClassMask, generators: Generators) -> State:
        return {"images": threat.random_start(origin, generators) if at_random else origin.clone()}

    return start


def pgd_step(
    model: ModelUnderTest, threat: ThreatModel, loss: Loss, size: float, aim: TargetFn = any_goal_class
) -> Step:
    """One projected step of length `size` up the gradient of `loss(logits, aim(slots))`."""

    def step(slots: SearchState) -> StepResult:
        images = slots.images
        output = model.loss_gradient(images, aim(slots), loss)
        moved = projected_step(images, slots.origin, output.gradient, threat, size)
        return StepResult(images, is_adversarial_logits(output.logits, slots.goal), {**slots.state, "images": moved})

    return step
