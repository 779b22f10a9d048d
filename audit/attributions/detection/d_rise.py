"""D-RISE: how much more of a box is found when a pixel happens to be shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audit.adversarial.targets import PositiveInt
from audit.core.objects import Detections
from audit.core.precise import precise
from audit.core.registry import detection_attribution
from audit.core.seeding import Generators
from audit.core.types import Images, PassCount
from audit.explanation.detection_targets import similarity_under
from audit.masking.evaluate import BufferPool
from audit.masking.soft_masks import SoftMasks, draw_soft_masks
from audit.models.detectors.under_test import DetectorUnderTest


@detection_attribution(
    reference="arXiv:2006.03204", needs="decisions", passes=lambda s, shape, boxes: PassCount(s["samples"], 0)
)
def d_rise(
    detector: DetectorUnderTest,
    images: Images,
    targets: Sequence[Detections],
    generators: Generators,
    *,
    samples: PositiveInt = 1000,
    cells: PositiveInt = 8,
    shown: float = 0.5,
) -> list[Tensor]:
    """The mean similarity under random soft masks, weighted by how far they show each pixel, minus the plain mean.

    Similarity is that of `still_found`; masks are those of RISE, blended with the mean colour of the image. All boxes
    of an image share its masks, each of which is forwarded once (Petsiuk et al. 2021, arXiv:2006.03204).

    Args:
        detector: The detector to explain; its answers are enough.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: The boxes to explain in each.
        generators: One random generator an image.
        samples: Masks an image.
        cells: Rows and columns of the grid; the paper has 16 for images of 640 pixels a side.
        shown: The probability with which a cell is shown, in (0, 1).

    Returns:
        Of each image the maps of its targets, float32 (T, H, W), in units of similarity.
    """
    pool = BufferPool()
    maps: list[Tensor] = []
    for row, target in enumerate(targets):
        image = detector.check_images(images[row : row + 1])[0]
        if not len(target):
            maps.append(image.new_zeros(0, *image.shape[1:]))
            continue
        one = Generators(generators.keys[row : row + 1])
        masks = draw_soft_masks(one, samples, (image.shape[1], image.shape[2]), cells, shown)
        maps.append(_map(masks, masked_similarity(detector, image, target.to(detector.device), masks, pool)))
    return maps


def masked_similarity(
    detector: DetectorUnderTest, image: Tensor, targets: Detections, masks: SoftMasks, pool: BufferPool
) -> Tensor:
    """How much of each target is found under each mask, float32 (T, M).

    Args:
        detector: The detector.
        image: Float32 (C, H, W) in [0, 1].
        targets: T boxes.
        masks: M masks; where they do not show the image, its mean colour does.
        pool: Memory that each batch writes over.
    """
    baseline = image.mean((1, 2), keepdim=True)

    def compose(rows: slice) -> Tensor:
        enlarged = pool.like(image[None, :1], "masks", rows.stop - rows.start)
        masks.enlarge(rows, enlarged.squeeze(1))
        return torch.lerp(baseline, image, enlarged, out=pool.like(image[None], "images", len(enlarged)))

    return similarity_under(detector, targets, len(masks.grids), compose)


def _map(masks: SoftMasks, similarity: Tensor) -> Tensor:
    weights = precise(similarity)
    masks = masks.to(weights.device)
    every = torch.arange(weights.shape[1], device=weights.device)
    totals = masks.totals(torch.cat([weights, torch.ones_like(weights[:1])]), every)
    return (totals[:-1] / totals[-1].clamp(min=1e-12) - weights.mean(1)[:, None, None]).float().to(similarity.device)
