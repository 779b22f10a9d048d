"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

import torch

from audit.adversarial.active_set import run_search
from audit.adversarial.search_state import SearchState, State, StepResult
from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.core.ascent import projected_step
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images, PassCount
from audit.models.losses import LossName, is_adversarial_logits, loss_named
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1710.06081",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=lambda s, shape: PassCount(s["steps"], s["steps"]),
    effort=("steps",),
)
def mi_fgsm(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 10,
    decay: PositiveFloat = 1.0,
    loss: LossName = "ce",
    to_the_end: bool = False,
) -> Images:
    """Steps of eps / steps along a running mean of l1-normalised gradients (Dong et al. 2018, algorithm 1).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        decay: Factor of the momentum at each step.
        loss: The loss to raise: "ce" (cross-entropy), "margin" or "dlr".
        to_the_end: Whether every step is taken even where the model breaks before: what transfers to another model
            lies far beyond the boundary of this one.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    loss_function = loss_named(loss, len(model.classes))

    def start(origin: Images, goal: ClassMask, draws: Generators) -> State:
        return {"images": origin.clone(), "momentum": torch.zeros_like(origin)}

    def step(slots: SearchState) -> StepResult:
        images = slots.images
        output = model.loss_gradient(images, slots.goal, loss_function)
        gradient = output.gradient.nan_to_num(0.0, 0.0, 0.0)
        size = norms(gradient, "l1").clamp(min=1e-30).view(-1, 1, 1, 1)
        momentum = decay * slots.state["momentum"] + gradient / size
        moved = projected_step(images, slots.origin, momentum, threat, threat.eps / steps)
        state = {"images": moved, "momentum": momentum}
        done = is_adversarial_logits(output.logits, slots.goal)
        return StepResult(images, torch.zeros_like(done) if to_the_end else done, state)

    return run_search(model, batch, generators, start=start, step=step, steps=steps)
