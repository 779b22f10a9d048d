"""Decoupled direction and norm, by foolbox."""

from __future__ import annotations

from audit.attacks.foolbox_bridge import minimise
from audit.models.under_test import ModelUnderTest
from audit.registry import attack
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch, Images


@attack(reference="arXiv:1811.09600", needs="gradients", norms=("l2",), minimal=True, wraps="foolbox")
def ddn(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 100,
    initial_eps: float = 1.0,
    gamma: float = 0.05,
) -> Images:
    """Gradient steps on a sphere that shrinks by `gamma` while the image is misclassified and grows while it is not."""
    return minimise(
        {"l2": "DDNAttack"}, model, batch, threat, generators, steps=steps, init_epsilon=initial_eps, gamma=gamma
    )
