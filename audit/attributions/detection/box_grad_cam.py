"""Grad-CAM of a found box, in the last feature maps that its score depends on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.objects import Candidates, Detections
from audit.core.registry import detection_attribution
from audit.core.seeding import Generators
from audit.core.types import Images, PassCount
from audit.explanation.box_gradients import maps_by_image, one_row_a_box, require_gradients
from audit.explanation.detection_targets import log_odds_of
from audit.explanation.feature_maps import FeatureMaps
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attribution(
    reference="arXiv:1610.02391", needs="gradients", passes=lambda s, shape, boxes: PassCount(boxes, boxes)
)
def box_grad_cam(
    detector: DetectorUnderTest, images: Images, targets: Sequence[Detections], generators: Generators
) -> list[Tensor]:
    """The feature maps weighted by the mean gradient of the box's log-odds, positive part (Selvaraju et al. 2017).

    The maps are those of the last layer, among those that run once in a forward and keep one map an image, on which the
    log-odds depend in more than one place: the last before the scores themselves, and for a feature pyramid the level
    that the box was found on.

    Args:
        detector: The detector to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: The boxes to explain in each.
        generators: Unused: nothing is drawn.

    Returns:
        Of each image the maps of its targets, float32 (T, H, W), enlarged bilinearly, each at most 1.

    Raises:
        NotApplicable: The detector gives no gradients, or no layer with feature maps.
    """
    require_gradients(detector)
    owners, single = one_row_a_box(targets)
    checked = detector.check_images(images)
    log_odds, size = log_odds_of(single), (checked.shape[2], checked.shape[3])
    maps: list[Tensor] = []

    def objective(candidates: list[Candidates], rows: slice) -> Tensor:
        values = log_odds(candidates, rows)
        gradients = layers.gradients(values)
        maps.extend(_cam(layers.outputs, gradients, row, size) for row in range(len(values)))
        layers.forget()
        return values

    with FeatureMaps(detector.form) as layers:
        detector.candidate_gradient(checked[owners.to(detector.device)], objective)
    return maps_by_image(torch.stack(maps) if maps else checked.new_zeros(0, *size), targets)


def _cam(outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], row: int, size: tuple[int, int]) -> Tensor:
    """The map of one row; equation 1 and 2 of arXiv:1610.02391."""
    for output, gradient in zip(reversed(outputs), reversed(gradients), strict=True):
        if gradient is not None and int(gradient[row].any(0).sum()) > 1:
            weights = gradient[row].mean((1, 2), keepdim=True)
            positive = (weights * output[row].detach()).sum(0).clamp(min=0)
            enlarged = functional.interpolate(positive[None, None], size=size, mode="bilinear", align_corners=False)
            return enlarged[0, 0] / enlarged.amax().clamp(min=1e-12)
    raise NotApplicable(note("boxes_no_maps", "No layer of the detector keeps feature maps that a box depends on."))
