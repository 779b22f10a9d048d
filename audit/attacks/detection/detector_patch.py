"""One patch for every image, which hides objects or makes a detector find what is not there."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from audit.adversarial.detection_aims import DetectionObjective
from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.adversarial.universal_ascent import AscentSettings, mean_gradient_ascent
from audit.attacks.detection.patch_on_objects import PatchOnObjects
from audit.attacks.patch import PatchThreat
from audit.core.detection_aim import DetectionAim
from audit.core.registry import detection_attack
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attack(
    reference="arXiv:1904.08653",
    needs="gradients",
    norms=(),
    threat="one patch for every image, on the objects or in a square of known place",
)
def detector_patch(
    detector: DetectorUnderTest,
    batch: Batch,
    threat: PatchOnObjects | PatchThreat,
    generators: Generators,
    on_step: Callable[[], None] = lambda: None,
    *,
    aim: DetectionAim = "vanish",
    steps: PositiveInt = 100,
    images_a_step: PositiveInt = 32,
    rate: PositiveFloat = 0.1,
    decay: PositiveFloat = 0.9,
) -> Images:
    """One patch, made on `batch` by ascent on the mean of the aim's value over its images, from a random one.

    On objects it is the patch of Thys et al. (2019, arXiv:1904.08653), in a known place that of DPatch (Liu et al.
    2018, arXiv:1806.02299) and of Lee and Kolter (2019, arXiv:1906.11897), whose optimisation by sign and momentum this
    is. Put it on images it was not made on and see what is found. Costs steps x images_a_step passes each way.

    Args:
        detector: The detector under attack.
        batch: N images float32 (N, C, H, W) in [0, 1] with their objects.
        threat: Where the patch is.
        generators: One random generator an image.
        on_step: Called before each step.
        aim: What the detector is to do, see `audit.adversarial.detection_aims.DetectionObjective`.
        steps: Gradient steps, at least 1.
        images_a_step: Images whose mean gradient one step follows.
        rate: Length of the first step, in pixel units.
        decay: Factor of the momentum at each step.

    Returns:
        The paint, float32 (1, C, rows, columns) in [0, 1], of the shape that the threat's `paint_shape` says.

    Raises:
        NotApplicable: The detector gives no gradients, or knows one class and is to mislabel.
    """
    objective = DetectionObjective(detector, batch.objects or (), aim)
    images = detector.check_images(batch.images)
    draws = Generators(generators.keys.sum().view(1).to(detector.device))

    def gradient(indices: Tensor, paint: Images) -> Images:
        on_step()
        part = threat.select(indices)
        answer = objective.gradient(part.painted(images[indices], paint), indices)
        return part.pulled_back(answer.gradient.nan_to_num(0.0, 0.0, 0.0)) / len(indices)

    def move(paint: Images, direction: Images, step: float) -> Images:
        return (paint + rate * step * direction.sign()).clamp(0, 1)

    first = draws.uniform(*threat.paint_shape(detector.input_shape))
    ascent = AscentSettings(steps, images_a_step, decay)
    return mean_gradient_ascent(gradient, generators, first, ascent=ascent, move=move)
