"""Decoupled direction and norm, by foolbox."""

from __future__ import annotations

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1811.09600",
    needs="gradients",
    norms=("l2",),
    minimal=True,
    wraps="foolbox",
    passes=lambda s: (s["steps"] + 4, s["steps"]),
    effort=("steps",),
)
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
    return run_foolbox(
        {"l2": "DDNAttack"}, model, batch, threat, generators, steps=steps, init_epsilon=initial_eps, gamma=gamma
    )
