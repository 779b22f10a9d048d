"""Decoupled direction and norm, by foolbox."""

from __future__ import annotations

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1811.09600",
    needs="gradients",
    norms=("l2",),
    minimal=True,
    wraps="foolbox",
    passes=lambda s, shape: PassCount(s["steps"] + 4, s["steps"]),
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
    """Gradient steps on a sphere that shrinks by `gamma` while the image is misclassified and grows while it is not.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        initial_eps: Radius of the first sphere, in the l2 norm.
        gamma: Share by which the radius changes at a step.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_foolbox(
        {"l2": "DDNAttack"}, model, batch, threat, generators, steps=steps, init_epsilon=initial_eps, gamma=gamma
    )
