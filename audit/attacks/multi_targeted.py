"""Projected gradient descent towards each likely class in turn."""

from __future__ import annotations

from torch import Tensor

from audit.attacks.pgd import ascent, starting
from audit.attacks.steps import Count, Positive, one_target, ranked_targets
from audit.models.under_test import ModelUnderTest
from audit.passes.active import search
from audit.passes.losses import margin_targeted
from audit.passes.restarts import until_broken
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch, Images


@attack(reference="arXiv:1910.09338", needs="gradients", norms=("linf", "l2", "l1"))
def multi_targeted(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: Count = 40,
    relative_step: Positive = 0.1,
    targets: Count = 9,
) -> Images:
    """PGD on the margin to each of the likeliest `targets` classes of the goal in turn (Gowal et al. 2019)."""
    classes = ranked_targets(model, batch, targets)
    step = ascent(model, threat, margin_targeted, relative_step * threat.eps, one_target)

    def attempt(part: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        given = {"target": classes[index.to(classes.device), number]}
        start = starting(threat, at_random=True)
        return search(model, part, draws, start=start, step=step, steps=steps, given=given)

    return until_broken(model, batch, generators, attempt, attempts=classes.shape[1])
