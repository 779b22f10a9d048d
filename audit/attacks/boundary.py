"""The boundary attack, by foolbox."""

from __future__ import annotations

from audit.adversarial.decision_based import MAX_START_QUERIES, run_from_starts
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1712.04248",
    needs="decisions",
    norms=("l2",),
    minimal=True,
    wraps="foolbox",
    passes=lambda s, shape: PassCount(int(1.2 * s["steps"]) + MAX_START_QUERIES + 8, 0),
    effort=("steps",),
)
def boundary(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 5000,
    spherical_step: float = 0.01,
    source_step: float = 0.01,
) -> Images:
    """A random walk along the boundary towards the image, about 1.1 `steps` queries an image, only labels seen.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Steps of the walk.
        spherical_step: Length of the step along the sphere around the image, relative to the distance.
        source_step: Length of the step towards the image, relative to the distance.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_from_starts(
        {"l2": "BoundaryAttack"},
        model,
        batch,
        threat,
        generators,
        steps=steps,
        spherical_step=spherical_step,
        source_step=source_step,
    )
