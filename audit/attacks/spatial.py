"""Every rotation and translation of a grid: the worst case by full enumeration."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.adversarial.gradient_step import PositiveInt
from audit.adversarial.spatial_threat import SpatialThreat, apply_pose
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.models.losses import is_adversarial_logits
from audit.models.under_test import ModelUnderTest


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
    angles: PositiveInt = 31,
    shifts: PositiveInt = 5,
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
        shown = apply_pose(images[alive].repeat_interleave(len(part), 0), part.repeat(len(alive), 1))
        broken = is_adversarial_logits(model.logits(shown), goal[alive].repeat_interleave(len(part), 0)).view(
            -1, len(part)
        )
        solved = broken.any(1)
        found[alive[solved]] = part[broken[solved].int().argmax(1)]
        alive = alive[~solved]
    return found
