"""RISE: how much higher the output is when a pixel happens to be shown."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audit.attributions.explained import Explained, Explanation
from audit.attributions.segmentation import paint
from audit.attributions.sharing import exchanged, scores_of
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest
from audit.passes.masks import MaskQueue, Pages
from audit.registry import attribution
from audit.seeding import Generators
from audit.types import Images


@attribution(reference="arXiv:1806.07421", needs="scores", signed=True, baseline="mean")
def rise(
    model: ModelUnderTest,
    images: Images,
    explained: Explained,
    *,
    samples: int = 1000,
    cells: int = 7,
    shown: float = 0.5,
    over: Literal["grid", "segments"] = "grid",
) -> Explanation:
    """The mean output under random soft masks, weighted by how far they show each pixel, minus the plain mean.

    Masks are `cells` x `cells` grids of bits (1 with probability `shown`), enlarged bilinearly with a random shift and
    blended with the baseline; `over` segments, they show each segment with probability `shown`, hard-edged, and
    methods on the same segments share their passes (see `explain_together`). Subtracting the mean leaves the
    paper's order of pixels and takes most of its noise away. (N, 1, H, W). Units: output.
    """
    if over == "segments":
        return _over_segments(explained.masks(model, images), explained, samples, shown)
    count, height, width = len(images), *images.shape[2:]
    outputs = torch.zeros(count, samples, device=images.device, dtype=torch.float64)
    sums = torch.zeros(count, 2, height * width, device=images.device, dtype=torch.float64)
    for row in range(count):
        sums[row], outputs[row] = _one(model, images[row], explained.part(slice(row, row + 1)), samples, cells, shown)
    weighted = sums[:, 0] / sums[:, 1].clamp(min=1e-12) - outputs.mean(1, keepdim=True)
    return Explanation(weighted.view(count, 1, height, width).float())


def _over_segments(queue: MaskQueue, explained: Explained, samples: int, shown: float) -> Explanation:
    drawn = [_hard_masks(explained.generators, queue, row, samples, shown) for row in range(len(queue.images))]
    values = [
        outputs @ masks.double() / masks.sum(0).clamp(min=1) - outputs.mean()
        for masks, outputs in zip(drawn, scores_of(queue, drawn), strict=True)
    ]
    return Explanation(paint(values, queue.segments))


def _hard_masks(generators: Generators, queue: MaskQueue, row: int, samples: int, shown: float) -> Tensor:
    generator = Generators(generators.keys[row : row + 1])
    drawn = generator.fork(0).uniform(samples, queue.sizes[row])[0].cpu() < shown
    return exchanged(queue, row, drawn, generator.fork(1))


def _one(
    model: ModelUnderTest, image: Tensor, explained: Explained, samples: int, cells: int, shown: float
) -> tuple[Tensor, Tensor]:
    """The outputs weighted by the masks and the masks' own sum, float64 (2, H x W); and the outputs (samples,)."""
    size = (image.shape[1], image.shape[2])
    drawn, pages = _draw(explained.generators, range(samples), size, cells, shown), Pages()

    def keep(part: slice) -> tuple[Tensor, Tensor]:
        masks = pages.like(image[None, :1], "masks", part.stop - part.start)
        _enlarge(drawn, part, cells, masks.squeeze(1))
        images = torch.lerp(explained.baseline, image, masks, out=pages.like(image[None], "images", len(masks)))
        outputs = explained.score(model.module(images), explained.targets.expand(len(masks)))
        return (torch.stack([outputs, torch.ones_like(outputs)]) @ masks.flatten(1)).double(), outputs.double()

    with torch.no_grad():
        sums, outputs = zip(*in_batches(samples, model.layout, keep), strict=True)
    return torch.stack(sums).sum(0), torch.cat(outputs)


def soft_masks(generators: Generators, numbers: range, size: tuple[int, int], cells: int, shown: float) -> Tensor:
    """The masks numbered `numbers` of one image, float32 (M, H, W) in [0, 1]."""
    masks = torch.empty(len(numbers), *size, device=generators.keys.device)
    return _enlarge(_draw(generators, numbers, size, cells, shown), slice(None), cells, masks)


_Drawn = tuple[Tensor, Tensor, Tensor]
"""Grids (M, cells + 1, cells + 1) of bits as floats, and their shifts down and across within a cell, int64 (M,)."""


def _draw(generators: Generators, numbers: range, size: tuple[int, int], cells: int, shown: float) -> _Drawn:
    stream = torch.arange(numbers.start, numbers.stop, device=generators.keys.device)
    keys = Generators(generators.keys.expand(len(stream))).fork(stream)
    grids = (keys.fork(0).uniform(cells + 1, cells + 1) < shown).float()
    down, across = (keys.fork(1 + side).integers(-(-size[side] // cells), 1).flatten() for side in (0, 1))
    return grids, down, across


def _enlarge(drawn: _Drawn, part: slice, cells: int, masks: Tensor) -> Tensor:
    """The masks of that part, written into `masks` (M, H, W)."""
    grids, down, across = (one[part] for one in drawn)
    rows, columns = (_enlarging(length, cells, grids.device) for length in masks.shape[1:])
    # index_select copies whole matrices, five times as fast as rows[down]
    return torch.bmm(rows.index_select(0, down) @ grids, columns.index_select(0, across).mT, out=masks)


@cache
def _enlarging(length: int, cells: int, device: torch.device) -> Tensor:
    """For each shift within a cell, the matrix that enlarges `cells` + 1 values linearly to `length`, (shifts, length,
    cells + 1): a bilinear mask is one such product a side."""
    cell = -(-length // cells)
    unit = torch.eye(cells + 1, device=device)[None]
    whole = functional.interpolate(unit, size=(cells + 1) * cell, mode="linear", align_corners=False)[0].T
    return torch.stack([whole[shift : shift + length] for shift in range(cell)])
