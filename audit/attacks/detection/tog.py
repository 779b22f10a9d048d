"""Projected gradient ascent on what a detector finds, with one of four aims."""

from __future__ import annotations

import torch

from audit.adversarial.detection_aims import DetectionObjective
from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.core.ascent import projected_step
from audit.core.detection_aim import DetectionAim
from audit.core.registry import detection_attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attack(
    reference="arXiv:2004.04320",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=lambda s, shape: PassCount(s["steps"] + 1, s["steps"]),
)
def tog(
    detector: DetectorUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    aim: DetectionAim = "untargeted",
    steps: PositiveInt = 20,
    relative_step: PositiveFloat = 0.1,
    random_start: bool = True,
) -> Images:
    """Projected gradient ascent on the aim's value from a random point of the ball (TOG, Chow et al. 2020).

    Steps are of relative_step * eps, as in Madry et al. 2018 (arXiv:1706.06083). See
    `audit.adversarial.detection_aims.DetectionObjective` for the aims.

    Args:
        detector: The detector under attack.
        batch: N images float32 (N, C, H, W) in [0, 1] with their objects.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an image.
        aim: What the detector is to do: "vanish" (find nothing), "fabricate" (find what is not there), "mislabel" (take
            objects for others) or "untargeted" (be as wrong as its training loss can tell).
        steps: Gradient steps, at least 1.
        relative_step: The step's length as a share of eps.
        random_start: Without it the search starts at the image itself.

    Returns:
        Of each image the point of the search with the highest value, float32 (N, C, H, W).

    Raises:
        NotApplicable: The detector gives no gradients, or knows one class and is to mislabel.
    """
    objective = DetectionObjective(detector, batch.objects or (), aim)
    origin = detector.check_images(batch.images)
    current = threat.random_start(origin, generators) if random_start else origin.clone()
    best, highest = current.clone(), torch.full((len(origin),), -torch.inf, device=origin.device)
    active = torch.arange(len(origin), device=origin.device)
    for step in range(steps + 1):
        if not len(active):
            break
        last = step == steps
        answer = None if last else objective.gradient(current[active], active)
        values = objective.values(current[active], active) if answer is None else answer.values
        better = values > highest[active]
        best[active[better]], highest[active[better]] = current[active[better]], values[better]
        if answer is None:
            break
        going = (values < objective.enough).nonzero().flatten()
        active, gradient = active[going], answer.gradient[going]
        current[active] = projected_step(current[active], origin[active], gradient, threat, relative_step * threat.eps)
    return best.to(batch.images.device)
