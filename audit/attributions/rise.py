"""RISE: how much higher the output is when a pixel happens to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.registry import attribution
from audit.core.seeding import Generators
from audit.core.types import Images, Logits, PassCount
from audit.explanation.mask_reuse import reuse_samples, scores_of
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.evaluate import BufferPool, evaluate
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import segments_to_pixels
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1806.07421",
    needs="scores",
    signed=True,
    baseline="mean",
    passes=lambda settings, shape: PassCount(settings["samples"], 0),
    version="3",
)
def rise(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    samples: int = 1000,
    cells: int = 7,
    shown: float = 0.5,
    over: Literal["grid", "segments"] = "grid",
) -> Attribution:
    """The mean output under random soft masks, weighted by how far they show each pixel, minus the plain mean.

    Masks are `cells` x `cells` grids of bits, enlarged bilinearly with a random shift and blended with the baseline
    (arXiv:1806.07421). Subtracting the mean leaves the paper's order of pixels and takes most of its noise away. The
    map is (N, 1, H, W), in units of the output.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Masks an image.
        cells: Rows and columns of the grid.
        shown: The probability with which a cell, or a segment, is shown, in (0, 1).
        over: Soft masks of a grid, or hard-edged ones of segments, whose answers segment methods share (see
            `audit.explanation.mask_reuse.explain_many`).
    """
    if over == "segments":
        return _over_segments(spec.masks(model, images), spec, samples, shown)
    size, buffers, maps = (images.shape[2], images.shape[3]), BufferPool(), []
    for row in range(len(images)):
        row_spec = spec.part(slice(row, row + 1))
        masks = _soft_masks(row_spec.generators, samples, size, cells, shown)
        maps.append(_one_image(model, images[row], row_spec, masks, buffers))
    return Attribution(torch.stack(maps)[:, None].float())


def _over_segments(queue: MaskQueue, spec: ExplanationSpec, samples: int, shown: float) -> Attribution:
    masks_by_row = [_hard_masks(spec.generators, queue, row, samples, shown) for row in range(len(queue.images))]
    values = [
        outputs @ masks.double() / masks.sum(0).clamp(min=1) - outputs.mean()
        for masks, outputs in zip(masks_by_row, scores_of(queue, masks_by_row), strict=True)
    ]
    return Attribution(segments_to_pixels(values, queue.segments))


def _hard_masks(generators: Generators, queue: MaskQueue, row: int, samples: int, shown: float) -> Tensor:
    generator = Generators(generators.keys[row : row + 1])
    masks = generator.fork(0).uniform(samples, queue.sizes[row])[0].cpu() < shown
    return reuse_samples(queue, row, masks, generator.fork(1))


@dataclass(frozen=True)
class _SoftMasks:
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

    def enlarge(self, rows: slice, masks: Tensor) -> Tensor:
        """The masks of that part, written into `masks` (M, H, W)."""
        # index_select copies whole matrices, five times as fast as rows[down]
        return torch.bmm(self.rows.index_select(0, self.down[rows]), self.wide[rows], out=masks)

    def totals(self, weights: Tensor) -> Tensor:
        """The sum of all masks under each row of `weights` float64 (K, M): float64 (K, H, W).

        Grids of the same shifts are added before they are enlarged, once.
        """
        downs, acrosses, corners = len(self.rows), len(self.columns), self.grids.shape[1]
        shift_of_mask = functional.one_hot(self.down * acrosses + self.across, downs * acrosses).to(weights)
        sums = (shift_of_mask.T * weights[:, None]) @ self.grids.flatten(1).to(weights)
        tall = self.rows.to(weights).transpose(0, 1).flatten(1)
        wide = self.columns.to(weights).transpose(1, 2).flatten(0, 1)
        blocks = sums.view(-1, downs, acrosses, corners, corners).transpose(2, 3)
        return tall @ blocks.reshape(-1, downs * corners, acrosses * corners) @ wide


def _one_image(
    model: ModelUnderTest, image: Tensor, spec: ExplanationSpec, masks: _SoftMasks, buffers: BufferPool
) -> Tensor:
    """One image's map, float64 (H, W)."""

    def compose(rows: slice) -> Tensor:
        enlarged = buffers.like(image[None, :1], "masks", rows.stop - rows.start)
        masks.enlarge(rows, enlarged.squeeze(1))
        return torch.lerp(spec.baseline, image, enlarged, out=buffers.like(image[None], "images", len(enlarged)))

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return spec.score(logits, spec.targets.expand(len(logits)))

    outputs = evaluate(model, len(masks.grids), compose, score_rows).double()
    # The weighted mean of arXiv:1806.07421, over the masks' own sum in place of its expectation.
    sums = masks.totals(torch.stack([outputs, torch.ones_like(outputs)]))
    return sums[0] / sums[1].clamp(min=1e-12) - outputs.mean()


def _soft_masks(generators: Generators, count: int, size: tuple[int, int], cells: int, shown: float) -> _SoftMasks:
    """Grids are drawn apart from shifts, so shifts may stand in order: one product enlarges all of a shift."""
    grids = generators.fork(0).bernoulli(shown, count, cells + 1, cells + 1)[0].float()
    rows, columns = (_enlarging(length, cells, grids.device) for length in size)
    down = generators.fork(1).integers(len(rows), count)[0]
    across = generators.fork(2).integers(len(columns), count)[0].sort().values
    of_a_shift = torch.split(grids, torch.bincount(across, minlength=len(columns)).tolist())
    wide = torch.cat([grid @ column.T for grid, column in zip(of_a_shift, columns, strict=True)])
    return _SoftMasks(grids, down, across, rows, columns, wide)


@cache
def _enlarging(length: int, cells: int, device: torch.device) -> Tensor:
    """For each shift within a cell, the matrix that enlarges `cells` + 1 values linearly to `length`, (shifts, length,
    cells + 1): a bilinear mask is one such product a side."""
    cell = -(-length // cells)
    unit = torch.eye(cells + 1, device=device)[None]
    enlarged = functional.interpolate(unit, size=(cells + 1) * cell, mode="linear", align_corners=False)[0].T
    return torch.stack([enlarged[shift : shift + length] for shift in range(cell)])
