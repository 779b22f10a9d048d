"""Projected gradient descent: random starts, restarts, and each example leaving the batch when it breaks."""

from __future__ import annotations

from torch import Tensor

from audit.adversarial.active_set import run_search
from audit.adversarial.restarts import passes_of_restarts, with_restarts
from audit.adversarial.search_state import SearchStart, SearchState, State, Step, StepResult
from audit.adversarial.targets import PositiveFloat, PositiveInt, TargetFn, any_goal_class
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
    passes=passes_of_restarts,
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

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        relative_step: The step's length as a share of eps.
        restarts: Random starts, each on the examples that those before it did not break.
        loss: The loss to raise: "ce" (cross-entropy), "margin" or "dlr".
        random_start: Without it the first start is the image itself; later restarts are always random.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    step = pgd_step(model, threat, loss_named(loss, len(model.classes)), relative_step * threat.eps)

    def attempt(subset: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        start = initial_point(threat, at_random=random_start or number > 0)
        return run_search(model, subset, draws, start=start, step=step, steps=steps)

    return with_restarts(model, batch, generators, attempt, attempts=restarts)


def initial_point(threat: ThreatModel, *, at_random: bool) -> SearchStart:
    """Where a search begins: at a random point of the ball, or at the image itself.

    Args:
        threat: The norm and eps of the ball that proposals stay in.
        at_random: Which of the two.

    Returns:
        The start for `run_search`.
    """

    def start(origin: Images, goal: ClassMask, generators: Generators) -> State:
        return {"images": threat.random_start(origin, generators) if at_random else origin.clone()}

    return start


def pgd_step(
    model: ModelUnderTest, threat: ThreatModel, loss: Loss, size: float, aim: TargetFn = any_goal_class
) -> Step:
    """One projected step up the gradient of `loss(logits, aim(slots))`.

    Args:
        model: The model under attack.
        threat: The norm and eps of the ball that proposals stay in.
        loss: The loss to raise, one value an example.
        size: The step's length, in the norm of `threat`.
        aim: What the loss is given beside the logits.

    Returns:
        The step for `run_search`.
    """

    def step(slots: SearchState) -> StepResult:
        images = slots.images
        output = model.loss_gradient(images, aim(slots), loss)
        moved = projected_step(images, slots.origin, output.gradient, threat, size)
        return StepResult(images, is_adversarial_logits(output.logits, slots.goal), {**slots.state, "images": moved})

    return step
