"""Rotations and translations: the threat, and the attack that tries every pose of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from audit.adversarial.targets import PositiveInt
from audit.core.errors import UsageError
from audit.core.precise import precise, precise_device
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.types import Batch, Images, PassCount
from audit.models.losses import is_adversarial_logits
from audit.models.under_test import ModelUnderTest

_SLACK = 1e-5
"""Pixel difference that two bilinear resamplings of one image in one pose may show."""


@dataclass(frozen=True)
class SpatialThreat:
    """Turn the image about its centre, then move it along each axis (Engstrom et al. 2019, arXiv:1712.02779). What
    comes in from outside the image is black.

    Attributes:
        rotation: Degrees either way at most, in [0, 180].
        translation: Pixels along each axis at most, 0 or more.

    Raises:
        UsageError: For a rotation outside [0, 180], or a negative translation.
    """

    rotation: float
    translation: float

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise UsageError(f"A rotation of {self.rotation!r} degrees is outside [0, 180]: write 30 for 30 degrees.")
        if not (math.isfinite(self.translation) and self.translation >= 0):
            raise UsageError(f"A translation of {self.translation!r} pixels is not possible: give 0 or more.")

    def __str__(self) -> str:
        return f"rotation ±{self.rotation:g}°, translation ±{self.translation:g} px"

    def grid(self, angles: int, shifts: int, device: torch.device) -> Tensor:
        """Every pose of an even grid; the farthest from no change at all come first, as they break most.

        Args:
            angles: Rotations in the grid.
            shifts: Translations along each axis.
            device: Where the tensor is made.

        Returns:
            Poses, float32 (angles x shifts x shifts, 3): degrees, pixels right, pixels down. An axis of one value holds
            0 alone.
        """
        turns = _spread(self.rotation, angles, device)
        moves = _spread(self.translation, shifts, device)
        poses = torch.cartesian_prod(turns, moves, moves)
        return poses[self.size(poses).argsort(descending=True, stable=True)]

    def size(self, poses: Tensor) -> Tensor:
        """How far each pose goes, as a share of the limits: the largest of its three, above 1 outside the threat, (N,).

        Args:
            poses: Float32 (N, 3): degrees, pixels right, pixels down.
        """
        limits = poses.new_tensor([self.rotation, self.translation, self.translation])
        shares = torch.where(limits > 0, poses.abs() / limits.clamp(min=1e-12), torch.where(poses == 0, 0.0, math.inf))
        return shares.amax(1)


@dataclass(frozen=True)
class PosedThreat:
    """The bounds of proposals that claim to be their originals in given poses: the verifier strikes each pose again, so
    that no attack can pass off another change as a rotation.

    Attributes:
        threat: The limits of the poses.
        poses: Of each proposal, float32 (N, 3).
    """

    threat: SpatialThreat
    poses: Tensor

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether each pose is within the threat and each image is its original in that pose, bool (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        again = apply_pose(origin, self.poses.to(origin.device))
        same = (images - again).abs().flatten(1).amax(1) <= _SLACK
        return same & (self.threat.size(self.poses).to(origin.device) <= 1 + 1e-6)

    def project(self, images: Images, origin: Images) -> Images:
        """The originals in their poses, each pose brought within the limits.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        limits = self.poses.new_tensor([self.threat.rotation, self.threat.translation, self.threat.translation])
        return apply_pose(origin, self.poses.clamp(-limits, limits).to(origin.device))

    def distance(self, images: Images, origin: Images) -> Tensor:
        """How far each pose goes, as a share of the threat's limits, float64 (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        return precise(self.threat.size(self.poses)).to(precise_device(origin.device))


def apply_pose(images: Images, poses: Tensor) -> Images:
    """Each image turned anticlockwise about its centre and then moved, bilinear. A pose of zeros is the image itself,
    bit for bit.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        poses: Float32 (N, 3) on the images' device: degrees, pixels right, pixels down.

    Returns:
        Float32 (N, C, H, W) in [0, 1].
    """
    height, width = images.shape[2:]
    turn = poses[:, 0] * (math.pi / 180)
    cosine, sine = turn.cos(), turn.sin()
    right, down = poses[:, 1], poses[:, 2]
    # From output to input: undo the move, then the turn. Positions are in half widths and half heights.
    across = torch.stack([cosine, -sine * height / width, (-cosine * right + sine * down) * 2 / width], dim=1)
    along = torch.stack([sine * width / height, cosine, (-sine * right - cosine * down) * 2 / height], dim=1)
    grid = affine_grid(torch.stack([across, along], dim=1), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
    still = (poses == 0).all(1).view(-1, 1, 1, 1)
    return torch.where(still, images, moved)


def _spread(limit: float, count: int, device: torch.device) -> Tensor:
    if count == 1 or limit == 0:
        return torch.zeros(1, device=device)
    return torch.linspace(-limit, limit, count, device=device)


@attack(
    reference="arXiv:1712.02779",
    needs="decisions",
    norms=(),
    threat="rotations and translations",
    passes=lambda s, shape: PassCount(s["angles"] * s["shifts"] ** 2, 0),
    effort=(),
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

    Whether any breaks is the exact worst case over the grid; `angles` x `shifts` x `shifts` is its size. Nothing is
    random.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The limits of the poses.
        generators: Not used.
        angles: Rotations in the grid.
        shifts: Translations along each axis.

    Returns:
        Poses, float32 (N, 3): the first that broke each image, farthest first, else no change at all.
    """
    images = model.check_images(batch.images)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    poses = threat.grid(angles, shifts, model.device)
    worst_poses = torch.zeros(len(batch), 3, device=model.device)
    alive = torch.arange(len(batch), device=model.device)
    start = 0
    while start < len(poses) and len(alive):
        chunk = poses[start : start + max(1, model.layout.batch_size // len(alive))]
        start += len(chunk)
        transformed = apply_pose(images[alive].repeat_interleave(len(chunk), 0), chunk.repeat(len(alive), 1))
        broken = is_adversarial_logits(model.logits(transformed), goal[alive].repeat_interleave(len(chunk), 0)).view(
            -1, len(chunk)
        )
        solved = broken.any(1)
        worst_poses[alive[solved]] = chunk[broken[solved].int().argmax(1)]
        alive = alive[~solved]
    return worst_poses
