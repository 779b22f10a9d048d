"""RISE: how much higher the output is when a pixel happens to be shown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audit.attributions.explained import Explained, Explanation
from audit.models.under_test import ModelUnderTest
from audit.passes.masks import evaluate
from audit.registry import attribution
from audit.seeding import Generators
from audit.types import Images, Logits


@attribution(reference="arXiv:1806.07421", needs="scores", signed=True, baseline="mean")
def rise(
    model: ModelUnderTest,
    images: Images,
    explained: Explained,
    *,
    samples: int = 1000,
    cells: int = 7,
    shown: float = 0.5,
) -> Explanation:
    """The mean output under random soft masks, weighted by how far they show each pixel, minus the plain mean.

    Masks are `cells` x `cells` grids of bits (1 with probability `shown`), enlarged bilinearly with a random shift and
    blended with the baseline. Subtracting the mean leaves the paper's order of pixels and takes most of its noise
    away. (N, 1, H, W). Units: output.
    """
    count, height, width = len(images), *images.shape[2:]
    outputs = torch.zeros(count, samples, device=images.device)
    sums = torch.zeros(count, 2, height * width, device=images.device, dtype=torch.float64)
    for row in range(count):
        keys = Generators(explained.generators.keys[row : row + 1])

        def masks(part: slice, keys: Generators = keys) -> Tensor:
            return soft_masks(keys, range(part.start, part.stop), (height, width), cells, shown).to(images.dtype)

        def compose(part: slice, row: int = row) -> Images:
            mask = masks(part)[:, None]
            return explained.baseline[row] + mask * (images[row] - explained.baseline[row])

        def judge(logits: Logits, part: slice, row: int = row) -> Tensor:
            mask = masks(part).flatten(1).double()
            outputs[row, part] = explained.score(logits, explained.targets[row].expand(len(logits)))
            return torch.stack([outputs[row, part].double() @ mask, mask.sum(0)])[None]

        sums[row] = evaluate(model, samples, compose, judge).sum(0)
    weighted = sums[:, 0] / sums[:, 1].clamp(min=1e-12) - outputs.double().mean(1, keepdim=True)
    return Explanation(weighted.view(count, 1, height, width).float())


def soft_masks(generators: Generators, numbers: range, size: tuple[int, int], cells: int, shown: float) -> Tensor:
    """The masks numbered `numbers` of one image, float32 (M, H, W) in [0, 1]."""
    height, width = size
    cell = (-(-height // cells), -(-width // cells))
    stream = torch.arange(numbers.start, numbers.stop, device=generators.keys.device)
    keys = Generators(generators.keys.expand(len(stream))).fork(stream)
    grids = (keys.fork(0).uniform(cells + 1, cells + 1) < shown).float()
    large = functional.interpolate(
        grids[:, None],
        size=((cells + 1) * cell[0], (cells + 1) * cell[1]),
        mode="bilinear",
        align_corners=False,
    )[:, 0]
    top = keys.fork(1).integers(cell[0], 1)
    left = keys.fork(2).integers(cell[1], 1)
    rows = top + torch.arange(height, device=large.device)
    columns = left + torch.arange(width, device=large.device)
    which = torch.arange(len(large), device=large.device)
    return large[which[:, None, None], rows[:, :, None], columns[:, None, :]]
