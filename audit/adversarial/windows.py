"""Random square windows of images, one an example."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from audit.core.seeding import Generators


class Window(NamedTuple):
    """A square in each image: `rows` (N, H) and `columns` (N, W) count from its top left corner; `side` (N,)."""

    rows: Tensor
    columns: Tensor
    side: Tensor

    @property
    def inside(self) -> Tensor:
        """Where the squares are, bool (N, 1, H, W)."""
        rows = (self.rows >= 0) & (self.rows < self.side[:, None])
        columns = (self.columns >= 0) & (self.columns < self.side[:, None])
        return (rows[:, :, None] & columns[:, None, :])[:, None]


def random_window(side: Tensor, draws: Generators, height: int, width: int) -> Window:
    """A square of the given sides, int64 (N,), anywhere in images of `height` x `width`."""
    top = draws.fork(0).integers(height - side + 1)
    left = draws.fork(1).integers(width - side + 1)
    device = side.device
    rows = torch.arange(height, device=device) - top[:, None]
    return Window(rows, torch.arange(width, device=device) - left[:, None], side)


def fixed_window(rows: slice, columns: slice, count: int, height: int, width: int, device: torch.device) -> Window:
    """The same square in every image."""
    side = torch.full((count,), rows.stop - rows.start, dtype=torch.int64, device=device)
    down = torch.arange(height, device=device).expand(count, -1) - rows.start
    return Window(down, torch.arange(width, device=device).expand(count, -1) - columns.start, side)
