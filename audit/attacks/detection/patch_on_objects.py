"""A patch on the middle of every object, as large as the object's size says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from audit.attacks.patch import PaintedThreat, square_within
from audit.core.objects import Objects
from audit.core.types import Images

PAINT_SIDE = 64
"""Rows and columns of the paint, which is averaged down or spread over each square."""


class _Square(NamedTuple):
    """Where the patch of one object is."""

    image: int
    top: int
    left: int
    rows: int
    columns: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)


@dataclass(frozen=True)
class PatchOnObjects(PaintedThreat):
    """Paint a square on the middle of every object (Thys et al. 2019, arXiv:1904.08653), crowds left out.

    The paint is one for all objects and images; on each object it has the object's size. Where two squares overlap,
    that of the later object is on top.

    Attributes:
        area: Share of an object's box that its square covers, in (0, 1); sides are rounded to whole pixels.
        objects: The objects of the N images.
    """

    area: float
    objects: Sequence[Objects]

    def select(self, index: Tensor) -> PatchOnObjects:
        """The threat to some of the images.

        Args:
            index: Their positions, int64 (M,).
        """
        return PatchOnObjects(self.area, [self.objects[i] for i in index.tolist()])

    def paint_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the paint.

        Args:
            image: Channels, height and width of an image.
        """
        return image[0], PAINT_SIDE, PAINT_SIDE

    def inside(self, images: Images) -> Tensor:
        """Where a square is, bool (N, 1, H, W).

        Args:
            images: The N images whose objects these are, (N, C, H, W).
        """
        return (self._owners(images) >= 0)[:, None]

    def painted(self, images: Images, paint: Images) -> Images:
        """The images with the patch on every object.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            paint: The patch, float32 (1, C, 64, 64) in [0, 1].
        """
        changed, sizes = images.clone(), dict[tuple[int, int], Tensor]()
        for square in self._squares(images):  # later ones on top
            size = (square.rows, square.columns)
            if size not in sizes:
                down, across = (_averages(length, paint) for length in size)
                sizes[size] = (down @ paint[0] @ across.T).clamp(0, 1)
            changed[(square.image, slice(None), *square.slices)] = sizes[size]
        return changed

    def pulled_back(self, gradient: Images) -> Images:
        """The gradient to the paint, summed over the images, (1, C, 64, 64).

        Args:
            gradient: That to the painted images, float32 (N, C, H, W).
        """
        owners, by_size = self._owners(gradient), dict[tuple[int, int], Tensor]()
        for number, square in enumerate(self._squares(gradient)):
            on_top = owners[(square.image, *square.slices)] == number
            part = gradient[(square.image, slice(None), *square.slices)] * on_top
            size = (square.rows, square.columns)
            by_size[size] = by_size[size] + part if size in by_size else part
        total = gradient.new_zeros(1, *self.paint_shape((gradient.shape[1], 0, 0)))
        for size, part in by_size.items():
            down, across = (_averages(length, gradient) for length in size)
            total[0] += down.T @ part @ across
        return total

    def _owners(self, images: Images) -> Tensor:
        """Of each pixel the number of the square on top, -1 for none, int64 (N, H, W)."""
        owners = torch.full((len(images), *images.shape[2:]), -1, device=images.device)
        for number, square in enumerate(self._squares(images)):
            owners[(square.image, *square.slices)] = number
        return owners

    def _squares(self, images: Images) -> Iterator[_Square]:
        height, width = images.shape[2:]
        for image, there in enumerate(self.objects):
            for x1, y1, x2, y2 in there.boxes[~there.crowd].tolist():
                rows, columns = square_within(self.area, max(1, round(y2 - y1)), max(1, round(x2 - x1)))
                rows, columns = min(rows, height), min(columns, width)
                top = min(max(0, round((y1 + y2 - rows) / 2)), height - rows)
                left = min(max(0, round((x1 + x2 - columns) / 2)), width - columns)
                yield _Square(image, top, left, rows, columns)


def _averages(length: int, like: Tensor) -> Tensor:
    """Row i averages the paint over the share i of `length` equal ones, (length, PAINT_SIDE)."""
    edges = torch.arange(length + 1, device=like.device, dtype=torch.float64) * (PAINT_SIDE / length)
    pixels = torch.arange(PAINT_SIDE, device=like.device, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (shared.clamp(min=0) * (length / PAINT_SIDE)).to(like.dtype)
