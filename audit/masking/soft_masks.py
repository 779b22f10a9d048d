"""Random soft masks of a grid, enlarged with a shift: those of RISE and of D-RISE."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.seeding import Generators


@dataclass(frozen=True)
class SoftMasks:
    """M masks of one image.

    Attributes:
        grids: Bits as floats, (M, cells + 1, cells + 1).
        down: Each mask's shift down within a cell, int64 (M,).
        across: Its shift across, int64 (M,), rising.
        rows: The matrices of `_enlarging` for the height, (shifts, H, cells + 1).
        columns: Those for the width, (shifts, W, cells + 1).
        wide: The grids enlarged across, (M, cells + 1, W).
    """

    grids: Tensor
    down: Tensor
    across: Tensor
    rows: Tensor
    columns: Tensor
    wide: Tensor

    def to(self, device: torch.device) -> SoftMasks:
        """The same masks on a device.

        Args:
            device: Where the tensors are to be.
        """
        return SoftMasks(*(getattr(self, column.name).to(device) for column in fields(self)))

    def enlarge(self, rows: slice, masks: Tensor) -> Tensor:
        """Write the masks of a part.

        Args:
            rows: Which part.
            masks: Where to, float32 (m, H, W), which is returned.
        """
        # index_select copies whole matrices, five times as fast as rows[down]
        return torch.bmm(self.rows.index_select(0, self.down[rows]), self.wide[rows], out=masks)

    def totals(self, weights: Tensor, members: Tensor) -> Tensor:
        """Weighted sums of masks, float64 (K, H, W); grids of the same shifts are added before they are enlarged, once.

        Args:
            weights: Float64 (K, m).
            members: Which masks, int64 (m,).
        """
        downs, acrosses, corners = len(self.rows), len(self.columns), self.grids.shape[1]
        shift_of_mask = functional.one_hot(self.down[members] * acrosses + self.across[members], downs * acrosses)
        sums = (shift_of_mask.to(weights).T * weights[:, None]) @ self.grids[members].flatten(1).to(weights)
        tall = self.rows.to(weights).transpose(0, 1).flatten(1)
        wide = self.columns.to(weights).transpose(1, 2).flatten(0, 1)
        blocks = sums.view(-1, downs, acrosses, corners, corners).transpose(2, 3)
        return tall @ blocks.reshape(-1, downs * corners, acrosses * corners) @ wide


def draw_soft_masks(generators: Generators, count: int, size: tuple[int, int], cells: int, shown: float) -> SoftMasks:
    """Masks of one image, as arXiv:1806.07421 draws them.

    Grids are drawn apart from shifts, so shifts may stand in order: one product enlarges all of a shift.

    Args:
        generators: One generator.
        count: How many masks.
        size: Height and width of the image.
        cells: Rows and columns of the grid.
        shown: The probability with which a cell is shown, in (0, 1).
    """
    grids = generators.fork(0).bernoulli(shown, count, cells + 1, cells + 1)[0].float()
    rows, columns = (_enlarging(length, cells, grids.device) for length in size)
    down = generators.fork(1).integers(len(rows), count)[0]
    across = generators.fork(2).integers(len(columns), count)[0].sort().values
    of_a_shift = torch.split(grids, torch.bincount(across, minlength=len(columns)).tolist())
    wide = torch.cat([grid @ column.T for grid, column in zip(of_a_shift, columns, strict=True)])
    return SoftMasks(grids, down, across, rows, columns, wide)


@cache
def _enlarging(length: int, cells: int, device: torch.device) -> Tensor:
    """For each shift within a cell, the matrix that enlarges `cells` + 1 values linearly to `length`, (shifts, length,
    cells + 1): a bilinear mask is one such product a side."""
    cell = -(-length // cells)
    unit = torch.eye(cells + 1, device=device)[None]
    enlarged = functional.interpolate(unit, size=(cells + 1) * cell, mode="linear", align_corners=False)[0].T
    return torch.stack([enlarged[shift : shift + length] for shift in range(cell)])
