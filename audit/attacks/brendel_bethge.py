"""Brendel and Bethge's attack along the boundary, by foolbox."""

from __future__ import annotations

import math

from audit.adversarial.decision_based import MAX_START_QUERIES, run_from_starts
from audit.attacks.ddn import ddn
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest

_BY_NORM = {
    "l2": "L2BrendelBethgeAttack",
    "linf": "LinfinityBrendelBethgeAttack",
    "l1": "L1BrendelBethgeAttack",
}

_DDN_STEPS = 100
"""Of the attack that finds a start."""


@attack(
    reference="arXiv:1907.01003",
    needs="gradients",
    norms=("l2", "linf", "l1"),
    minimal=True,
    wraps="foolbox",
    compiles=True,
    passes=lambda settings, shape: PassCount(
        settings["steps"] + _DDN_STEPS + MAX_START_QUERIES + 40, settings["steps"] + _DDN_STEPS + 1
    ),
    effort=("steps",),
)
def brendel_bethge(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 200,
    trust_radius: float = 1e-3,
) -> Images:
    """From a misclassified image along the boundary to its nearest point, by a trust-region problem a step.

    It starts where `ddn` ends, or from noise where that fails. `trust_radius` is foolbox's `lr`, which it multiplies
    with the number of values in the batch: each image therefore runs alone. The first call for a norm compiles
    foolbox's solver with numba, which can take a minute.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Steps along the boundary.
        trust_radius: Size of the trust region of one step, in pixel units.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    whole_box = ThreatModel("l2", math.sqrt(math.prod(model.input_shape)))
    return run_from_starts(
        _BY_NORM,
        model,
        batch,
        threat,
        generators,
        hints=ddn(model, batch, whole_box, generators.fork(2), steps=_DDN_STEPS),
        goals=("untargeted", "targeted"),
        steps=steps,
        lr=trust_radius,
        lr_num_decay=min(10, steps),
    )
