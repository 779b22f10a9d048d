"""Elastic-net attack in l1, by foolbox."""

from __future__ import annotations

from audit.adversarial.foolbox_adapter import run_foolbox
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1709.04114",
    needs="gradients",
    norms=("l1",),
    minimal=True,
    wraps="foolbox",
    passes=lambda settings, shape: PassCount(
        2 * settings["binary_search_steps"] * settings["steps"] + 6, settings["binary_search_steps"] * settings["steps"]
    ),
    effort=("steps",),
)
def ead(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    binary_search_steps: int = 6,
    steps: int = 150,
    step_size: float = 0.02,
    regularization: float = 0.01,
    initial_const: float = 0.1,
) -> Images:
    """Shrinkage and thresholding on the margin plus l2 and l1 distance, with a search for the smallest constant.

    foolbox's early stop looks at the loss summed over the batch, which ties examples together: it stays off.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        binary_search_steps: Constants that are tried.
        steps: Steps for each constant.
        step_size: The first step's length, in pixel units.
        regularization: Weight of the l1 distance.
        initial_const: The first factor of the margin.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_foolbox(
        {"l1": "EADAttack"},
        model,
        batch,
        threat,
        generators,
        binary_search_steps=binary_search_steps,
        steps=steps,
        initial_stepsize=step_size,
        regularization=regularization,
        initial_const=initial_const,
        decision_rule="L1",
        abort_early=False,
    )
