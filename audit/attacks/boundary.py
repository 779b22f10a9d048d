"""The boundary attack, by foolbox."""

from __future__ import annotations

from audit.adversarial.decision_based import MAX_START_QUERIES, run_from_starts
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest


@attack(
    reference="arXiv:1712.04248",
    needs="decisions",
    norms=("l2",),
    minimal=True,
    wraps="foolbox",
    passes=lambda s: (int(1.2 * s["steps"]) + MAX_START_QUERIES + 8, 0),
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
    """A random walk along the boundary towards the image, about 1.1 `steps` queries an image, only labels seen."""
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
