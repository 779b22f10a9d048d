"""Every rotation and translation of a grid: the worst case by full enumeration."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.attacks.spatial_threat import SpatialThreat, posed
from audit.attacks.steps import Count
from audit.models.under_test import ModelUnderTest
from audit.passes.losses import violated
from audit.registry import attack
from audit.seeding import Generators
from audit.types import Batch


@attack(
    reference="arXiv:1712.02779",
    needs="decisions",
    norms=(),
    threat="rotations and translations",
)
def spatial(
    model: ModelUnderTest,
    batch: Batch,
    threat: SpatialThreat,
    generators: Generators,
    *,
    angles: Count = 31,
    shifts: Count = 5,
) -> Tensor:
    """Every pose of an even grid of rotations and translations until one breaks the image (Engstrom et al. 2019).

    Gives poses, float32 (N, 3): the first that broke each image, farthest first, else no change at all. Whether any
    breaks is the exact worst case over the grid; `angles` x `shifts` x `shifts` is its size. Nothing is random.
    """
    images = model.check_images(batch.images)
    goal = batch.violations(len(model.classes)).to(model.device)
    poses = threat.grid(angles, shifts, model.device)
    found = torch.zeros(len(batch), 3, device=model.device)
    alive = torch.arange(len(batch), device=model.device)
    start = 0
    while start < len(poses) and len(alive):
        part = poses[start : start + max(1, model.layout.batch_size // len(alive))]
        start += len(part)
        shown = posed(images[alive].repeat_interleave(len(part), 0), part.repeat(len(alive), 1))
        broken = violated(model.logits(shown), goal[alive].repeat_interleave(len(part), 0)).view(-1, len(part))
        solved = broken.any(1)
        found[alive[solved]] = part[broken[solved].int().argmax(1)]
        alive = alive[~solved]
    return found
