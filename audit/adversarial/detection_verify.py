"""The verifier of attacks on detectors: what they propose is measured here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.adversarial.verify import Threat, brought_back
from audit.core.objects import Detections
from audit.core.types import Images
from audit.models.detectors.under_test import DetectorUnderTest


@dataclass(frozen=True)
class VerifiedDetections:
    """What was judged, and what the detector found in it, one row an image.

    Attributes:
        images: The proposals, projected back where they had left the ball or the box, float32 (N, C, H, W).
        found: What the detector, asked again in fp32 eager mode, finds in each.
        distance: In the threat's measure, float64 (N,).
        faults: Proposals that left the ball or the box, or were not finite: the attack's fault, bool (N,).
    """

    images: Images
    found: list[Detections]
    distance: Tensor
    faults: Tensor


def verify_detections(
    detector: DetectorUnderTest, images: Images, proposals: Images, threat: Threat
) -> VerifiedDetections:
    """Project, detect, measure again.

    Args:
        detector: The detector under attack.
        images: The clean images, float32 (N, C, H, W) in [0, 1].
        proposals: One image each, float32 (N, C, H, W).
        threat: What the proposals must obey.

    Raises:
        AuditError: When there is not one proposal an image.
    """
    origin = images.to(torch.float32)
    judged, faults = brought_back(proposals, origin, threat)
    return VerifiedDetections(judged, detector.detect(judged), threat.distance(judged, origin), faults)
