"""The fast gradient sign method and its l2 and l1 kin."""

from __future__ import annotations

from audit.core.ascent import projected_step
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.losses import LossName, loss_named
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1412.6572",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=lambda s, shape: PassCount(1, 1),
    effort=(),
)
def fgsm(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, generators: Generators, *, loss: LossName = "ce"
) -> Images:
    """One step of size eps along the loss's gradient: the cheapest attack (Goodfellow et al. 2015).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        loss: The loss to raise: "ce" (cross-entropy), "margin" or "dlr".

    Returns:
        Proposals, float32 (N, C, H, W).
    """
    classes = len(model.classes)
    loss_function = loss_named(loss, classes)
    origin = model.check_images(batch.images)
    gradient = model.loss_gradient(origin, batch.target_mask(classes).to(model.device), loss_function).gradient
    return projected_step(origin, origin, gradient, threat, threat.eps)
