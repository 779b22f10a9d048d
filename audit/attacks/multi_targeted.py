"""Projected gradient descent towards each likely class in turn."""

from __future__ import annotations

from torch import Tensor

from audit.adversarial.active_set import run_search
from audit.adversarial.restarts import passes_of_targets, with_restarts
from audit.adversarial.targets import PositiveFloat, PositiveInt, ranked_targets, single_target
from audit.attacks.pgd import initial_point, pgd_step
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.losses import margin_targeted
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1910.09338",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=passes_of_targets,
    effort=("steps",),
)
def multi_targeted(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 40,
    relative_step: PositiveFloat = 0.1,
    targets: PositiveInt = 9,
) -> Images:
    """PGD on the margin to each of the likeliest `targets` classes of the goal in turn (Gowal et al. 2019).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        relative_step: The step's length as a share of eps.
        targets: How many of the likeliest classes of the goal are tried.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    classes = ranked_targets(model, batch, targets)
    step = pgd_step(model, threat, margin_targeted, relative_step * threat.eps, single_target)

    def attempt(subset: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        initial_state = {"target": classes[index.to(classes.device), number]}
        start = initial_point(threat, at_random=True)
        return run_search(model, subset, draws, start=start, step=step, steps=steps, initial_state=initial_state)

    return with_restarts(model, batch, generators, attempt, attempts=classes.shape[1])
