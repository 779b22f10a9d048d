"""Saliency of a found box: how strongly its log-odds depend on each pixel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from audit.core.objects import Detections
from audit.core.registry import detection_attribution
from audit.core.seeding import Generators
from audit.core.types import Images, PassCount
from audit.explanation.box_gradients import box_gradient, maps_by_image, one_row_a_box, require_gradients
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attribution(
    reference="arXiv:1312.6034", needs="gradients", passes=lambda s, shape, boxes: PassCount(boxes, boxes)
)
def box_saliency(
    detector: DetectorUnderTest, images: Images, targets: Sequence[Detections], generators: Generators
) -> list[Tensor]:
    """The largest absolute derivative over the channels (Simonyan et al. 2014, arXiv:1312.6034, section 3.1).

    Args:
        detector: The detector to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: The boxes to explain in each.
        generators: Unused: nothing is drawn.

    Returns:
        Of each image the maps of its targets, float32 (T, H, W), in log-odds a unit of pixel value.

    Raises:
        NotApplicable: The detector gives no gradients.
    """
    require_gradients(detector)
    owners, single = one_row_a_box(targets)
    gradient = box_gradient(detector, detector.check_images(images)[owners.to(detector.device)], single)
    return maps_by_image(gradient.abs().amax(1), targets)
