"""SmoothGrad of a found box: its gradient averaged over noisy copies of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.core.objects import Detections
from audit.core.registry import detection_attribution
from audit.core.seeding import Generators
from audit.core.types import Images, PassCount
from audit.explanation.box_gradients import box_gradient, maps_by_image, one_row_a_box, require_gradients
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attribution(
    reference="arXiv:1706.03825",
    needs="gradients",
    passes=lambda s, shape, boxes: PassCount(s["samples"] * boxes, s["samples"] * boxes),
)
def box_smooth_grad(
    detector: DetectorUnderTest,
    images: Images,
    targets: Sequence[Detections],
    generators: Generators,
    *,
    samples: PositiveInt = 25,
    noise: PositiveFloat = 0.1,
) -> list[Tensor]:
    """The mean square gradient under Gaussian noise (Smilkov et al. 2017, arXiv:1706.03825; squared as in Hooker 2019).

    Args:
        detector: The detector to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: The boxes to explain in each.
        generators: One random generator an image.
        samples: Noisy copies.
        noise: Standard deviation of the noise, in units of pixel value.

    Returns:
        Of each image the maps of its targets, float32 (T, H, W): the channels' sum of mean squares.

    Raises:
        NotApplicable: The detector gives no gradients.
    """
    require_gradients(detector)
    owners, single = one_row_a_box(targets)
    checked, owners = detector.check_images(images), owners.to(detector.device)
    total = torch.zeros_like(checked[owners])
    for sample in range(samples):
        noisy = (checked + noise * generators.fork(sample).normal(*checked.shape[1:])).clamp(0, 1)
        total += box_gradient(detector, noisy[owners], single).square()
    return maps_by_image(total.sum(1) / samples, targets)
