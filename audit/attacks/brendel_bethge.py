"""Brendel and Bethge's attack along the boundary, by foolbox."""

from __future__ import annotations

from audit.attacks.decisions import from_starts
from audit.models.under_test import ModelUnderTest
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch, Images


@attack(
    reference="arXiv:1907.01003",
    needs="gradients",
    norms=("l2", "linf", "l1"),
    minimal=True,
    wraps="foolbox",
    compiles=True,
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

    The first call for a norm compiles foolbox's solver with numba, which takes minutes. Each image runs alone: in
    foolbox the trust region grows with the size of the batch.
    """
    return from_starts(
        {
            "l2": "L2BrendelBethgeAttack",
            "linf": "LinfinityBrendelBethgeAttack",
            "l1": "L1BrendelBethgeAttack",
        },
        model,
        batch,
        threat,
        generators,
        goals=("untargeted", "targeted"),
        steps=steps,
        lr=trust_radius,
        lr_num_decay=min(20, steps),
    )
