"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

import torch

from audit.attacks.steps import Count, Positive, uphill
from audit.models.under_test import ModelUnderTest
from audit.passes.active import Move, Slots, State, search
from audit.passes.losses import LossName, loss_named, violated
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel, norms
from audit.types import Batch, ClassMask, Images


@attack(reference="arXiv:1710.06081", needs="gradients", norms=("linf", "l2", "l1"))
def mi_fgsm(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: Count = 10,
    decay: Positive = 1.0,
    loss: LossName = "ce",
    to_the_end: bool = False,
) -> Images:
    """Steps of eps / steps along a running mean of l1-normalised gradients (Dong et al. 2018).

    `to_the_end` takes every step even where the model breaks before: what transfers to another model is far beyond
    the boundary of this one.
    """
    chosen = loss_named(loss, len(model.classes))

    def start(origin: Images, goal: ClassMask, draws: Generators) -> State:
        return {"images": origin.clone(), "momentum": torch.zeros_like(origin)}

    def step(slots: Slots) -> Move:
        shown = slots.images
        found = model.loss_gradient(shown, slots.goal, chosen)
        gradient = found.gradient.nan_to_num(0.0, 0.0, 0.0)
        size = norms(gradient, "l1").clamp(min=1e-30).view(-1, 1, 1, 1)
        momentum = decay * slots.state["momentum"] + gradient / size
        moved = shown + threat.eps / steps * uphill(threat.norm, momentum, shown)
        state = {"images": threat.project(moved, slots.origin), "momentum": momentum}
        done = violated(found.logits, slots.goal)
        return Move(shown, torch.zeros_like(done) if to_the_end else done, state)

    return search(model, batch, generators, start=start, step=step, steps=steps)
