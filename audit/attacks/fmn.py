"""Fast minimum norm, by foolbox."""

from __future__ import annotations

from typing import Any

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest

_OVERSHOOT = 1.02
"""Beyond the linearised distance: where the box cuts steps short the boundary is else neared and never crossed."""


@attack(
    reference="arXiv:2102.12827",
    needs="gradients",
    norms=("linf", "l2"),
    minimal=True,
    wraps="foolbox",
    passes=lambda s, shape: PassCount(s["steps"] + 4, s["steps"]),
    effort=("steps",),
)
def fmn(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 100,
    largest_step: float = 1.0,
    gamma: float = 0.05,
) -> Images:
    """Gradient steps projected onto a ball whose radius follows the linearised distance to the boundary.

    foolbox's l2 projection divides a norm by itself and so never projects: it is replaced here. Its l1 form stalls at
    the faces of the box (it broke 38% of images of which EAD breaks all) and is left out.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        largest_step: Length of the first step, in the norm; it falls along a cosine.
        gamma: Share by which the radius changes at the first step.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_foolbox(
        {"linf": "LInfFMNAttack", "l2": _projecting},
        model,
        batch,
        threat,
        generators,
        steps=steps,
        max_stepsize=largest_step,
        gamma=gamma,
    )


def _projecting(foolbox: Any) -> Any:
    """foolbox's l2 attack with the projection it means to have."""

    class ProjectingL2FMNAttack(foolbox.attacks.L2FMNAttack):  # type: ignore[misc]
        def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
            delta = (x - x0).reshape((len(x0), -1))
            factor = (epsilon * _OVERSHOOT / delta.norms.l2(axis=-1).maximum(1e-12)).minimum(1)
            return x0 + (delta * factor.reshape((-1, 1))).reshape(x0.shape)

    return ProjectingL2FMNAttack
