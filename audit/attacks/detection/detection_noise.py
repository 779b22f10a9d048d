"""Noise as large as allowed: the control that attacks on detectors have to beat."""

from __future__ import annotations

from audit.attacks.random_noise import noisy
from audit.core.registry import detection_attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attack(
    reference="arXiv:1902.06705",
    needs="nothing",
    norms=("linf", "l2", "l1"),
    control=True,
    passes=lambda s, shape: PassCount(0, 0),
)
def detection_noise(detector: DetectorUnderTest, batch: Batch, threat: ThreatModel, generators: Generators) -> Images:
    """Noise of the full norm in a random direction: a corner for linf, a point of the sphere for l2 and l1.

    Args:
        detector: The detector under attack; not asked.
        batch: N images float32 (N, C, H, W) in [0, 1] with their objects.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an image.

    Returns:
        Proposals, float32 (N, C, H, W).
    """
    origin = detector.check_images(batch.images)
    return noisy(origin, threat, generators).to(batch.images.device)
