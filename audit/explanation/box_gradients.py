"""Gradients of the log-odds of found boxes, a row for each box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.objects import Detections
from audit.core.types import Images
from audit.explanation.detection_targets import log_odds_of
from audit.models.detectors.under_test import DetectorUnderTest


def require_gradients(detector: DetectorUnderTest) -> None:
    """Refuse a detector that has no gradients or shows no boxes before suppression.

    Args:
        detector: The detector.

    Raises:
        NotApplicable: It does not.
    """
    if not (detector.gives_gradients and detector.gives_candidates):
        raise NotApplicable(
            note("boxes_no_gradients", "The detector gives no gradient of a box's score; D-RISE needs none.")
        )


def one_row_a_box(targets: Sequence[Detections]) -> tuple[Tensor, list[Detections]]:
    """Each target by itself: the image it is in, int64 (R,), and the box alone.

    Args:
        targets: The boxes of each image.
    """
    owners = [row for row, some in enumerate(targets) for _ in range(len(some))]
    single = [
        Detections(some.boxes[i : i + 1], some.labels[i : i + 1], some.scores[i : i + 1])
        for some in targets
        for i in range(len(some))
    ]
    return torch.tensor(owners, dtype=torch.int64, device="cpu"), single


def maps_by_image(rows: Tensor, targets: Sequence[Detections]) -> list[Tensor]:
    """The rows of `one_row_a_box` dealt out to the images again.

    Args:
        rows: A map for each box, (R, H, W).
        targets: The boxes of each image.
    """
    return list(torch.split(rows, [len(some) for some in targets]))


def box_gradient(detector: DetectorUnderTest, images: Images, targets: Sequence[Detections]) -> Images:
    """The gradient of each box's log-odds with respect to its image, float32 (R, C, H, W).

    Args:
        detector: The detector.
        images: One image a box, float32 (R, C, H, W) in [0, 1].
        targets: One box each.
    """
    return detector.candidate_gradient(images, log_odds_of(targets)).gradient
