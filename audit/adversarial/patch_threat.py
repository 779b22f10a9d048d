"""A patch as a threat: any change at all, within a square whose place is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.types import Images

Place = Literal["top-left", "top-right", "bottom-left", "bottom-right", "centre"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class PatchThreat:
    """What an adversary may do: paint a square of `area` (a share of the image) at a `place` of it, in any colours
    (Brown et al. 2017, arXiv:1712.09665, at a place that is known).

    The square's side is rounded to whole pixels, at least one. Raises UsageError for an area outside (0, 1), or an
    unknown place.
    """

    area: float
    place: Place = "centre"

    def __post_init__(self) -> None:
        if not 0 < self.area < 1:
            raise UsageError(f"A patch over {self.area!r} of the image is outside (0, 1): write 0.05 for 5%.")
        if self.place not in PLACES:
            raise unknown_name("place of a patch", str(self.place), PLACES)

    def __str__(self) -> str:
        return f"patch over {self.area:.1%} of the image, {self.place}"

    def inside(self, images: Images) -> Tensor:
        """Where the square is, bool (1, 1, H, W)."""
        height, width = images.shape[2:]
        side = min(max(1, round(math.sqrt(self.area * height * width))), height, width)
        middle = self.place == "centre"
        top = (height - side) // 2 if middle else (height - side) * self.place.startswith("bottom")
        left = (width - side) // 2 if middle else (width - side) * self.place.endswith("right")
        square = torch.zeros(1, 1, height, width, dtype=torch.bool, device=images.device)
        square[..., top : top + side, left : left + side] = True
        return square

    def painted(self, images: Images, paint: Images) -> Images:
        """The images under the square of `paint`, which has their size."""
        return torch.where(self.inside(images), paint.to(images.dtype), images)

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether nothing changed outside the square and all is in the box, bool (N,)."""
        outside = ~self.inside(origin)
        kept = (images == origin).logical_or(~outside).flatten(1).all(1)
        flat = images.flatten(1)
        return kept & (flat >= 0).all(1) & (flat <= 1).all(1)

    def project(self, images: Images, origin: Images) -> Images:
        """The images inside the square, the originals outside."""
        return self.painted(origin, images.clamp(0, 1))

    def distance(self, images: Images, origin: Images) -> Tensor:
        """The share of the pixels that changed, float64 (N,)."""
        return (images != origin).any(1).flatten(1).double().mean(1)
