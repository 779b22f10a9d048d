"""Carlini and Wagner's l2 attack, by foolbox."""

from __future__ import annotations

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1608.04644",
    needs="gradients",
    norms=("l2",),
    minimal=True,
    wraps="foolbox",
    passes=lambda settings, shape: PassCount(
        settings["binary_search_steps"] * settings["steps"] + 4, settings["binary_search_steps"] * settings["steps"]
    ),
    effort=("steps",),
)
def carlini_wagner(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    binary_search_steps: int = 5,
    steps: int = 100,
    step_size: float = 0.05,
    confidence: float = 0.0,
    initial_const: float = 1.0,
) -> Images:
    """Adam on distance plus c times the margin, in tanh space, with a search for the smallest c.

    foolbox's early stop looks at the loss summed over the batch, which ties examples together: it stays off.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        binary_search_steps: Values of c that are tried.
        steps: Steps of Adam for each c.
        step_size: Learning rate of Adam, in tanh space.
        confidence: The margin by which the goal's logit must win.
        initial_const: The first c.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_foolbox(
        {"l2": "L2CarliniWagnerAttack"},
        model,
        batch,
        threat,
        generators,
        binary_search_steps=binary_search_steps,
        steps=steps,
        stepsize=step_size,
        confidence=confidence,
        initial_const=initial_const,
        abort_early=False,
    )
