"""DeepFool, by foolbox."""

from __future__ import annotations

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1511.04599",
    needs="gradients",
    norms=("l2", "linf"),
    minimal=True,
    wraps="foolbox",
    passes=lambda settings, shape: PassCount(
        settings["steps"] * (settings["candidates"] + 1) + 5, settings["steps"] * (settings["candidates"] + 1)
    ),
    effort=("steps",),
)
def deepfool(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
) -> Images:
    """Step after step to the nearest boundary of the linearised model, among the likeliest `candidates` classes.

    Untargeted only: foolbox ignores a target without a word, so one raises NotApplicable.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        candidates: Classes whose boundaries are looked at.
        overshoot: Share by which the perturbation is made longer, to cross the boundary.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_foolbox(
        {"l2": "L2DeepFoolAttack", "linf": "LinfDeepFoolAttack"},
        model,
        batch,
        threat,
        generators,
        goals=("untargeted",),
        steps=steps,
        candidates=min(candidates, len(model.classes)),
        overshoot=overshoot,
    )
