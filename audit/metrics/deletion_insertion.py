"""Deletion and insertion: what happens to the output as pixels leave, or come back, in an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.registry import metric
from audit.core.types import Attributions, Images, Labels, Logits
from audit.masking.evaluate import evaluate_masked
from audit.masking.outputs import Output, score
from audit.masking.queue import MaskQueue
from audit.models.under_test import ModelUnderTest

Mode = Literal["deletion", "insertion"]


@metric(reference="arXiv:1806.07421", unit="of the output", better="lower")
def deletion_area(curves: Tensor) -> Tensor:
    """The mean height of deletion curves (N, steps + 1), by trapezoids: low when what was ranked first decides."""
    return _area(curves)


@metric(reference="arXiv:1806.07421", unit="of the output", better="higher")
def insertion_area(curves: Tensor) -> Tensor:
    """The mean height of insertion curves (N, steps + 1), by trapezoids: high when what was ranked first decides."""
    return _area(curves)


def removal_curves(
    model: ModelUnderTest,
    images: Images,
    orders: Mapping[str, Tensor],
    *,
    targets: Labels,
    fill: Images,
    mode: Mode,
    steps: int = 24,
    output: Output = "probability",
) -> dict[str, Tensor]:
    """The target's output after 0, 1, ... `steps` equal shares of the pixels left for `fill` (deletion) or came
    back from it (insertion), float32 (N, steps + 1) for each order.

    `orders` int64 (N, H x W), pixels first to last. The two ends are the same for all orders and forwarded once.
    """
    pixels = images.shape[2] * images.shape[3]
    bounds = torch.linspace(0, pixels, steps + 1, device=images.device, dtype=torch.float64).round().to(images.dtype)
    start, end = (images, fill) if mode == "deletion" else (fill, images)
    curves: dict[str, Tensor] = {}
    for name, order in orders.items():
        if not curves:
            first = curves[name] = _heights(model, start, end, order, bounds, targets, output)
        else:
            inner = _heights(model, start, end, order, bounds[1:-1], targets, output)
            curves[name] = torch.cat([first[:, :1], inner, first[:, -1:]], 1)
    return curves


def segment_curves(queue: MaskQueue, maps: Attributions, *, mode: Mode, steps: int = 24) -> Tensor:
    """The queue's output after 0, 1, ... `steps` equal shares of each image's segments left for its baseline (deletion)
    or came back from it (insertion), float32 (N, steps + 1); segments go by their mean in `maps` (N, C, H, W).

    The same areas over segments instead of pixels: masks that explained the image already are not forwarded again.
    """
    masks = []
    for row, size in enumerate(queue.sizes):
        sums = torch.zeros(size, device=maps.device).index_add(0, queue.flat_segments[row], maps[row].sum(0).flatten())
        means = sums / queue.flat_segments[row].bincount(minlength=size)
        ranks = means.argsort(descending=True, stable=True).argsort()
        bounds = torch.linspace(0, size, steps + 1, device=maps.device).round()
        masks.append((ranks[None] < bounds[:, None]) ^ (mode == "deletion"))
    widest = max(queue.sizes)
    padded = torch.cat([functional.pad(mask, (0, widest - mask.shape[1])) for mask in masks])
    owners = torch.arange(len(masks), device=maps.device).repeat_interleave(steps + 1)
    return queue.scores(owners, padded).view(len(masks), steps + 1)


def _heights(
    model: ModelUnderTest,
    start: Images,
    end: Images,
    order: Tensor,
    bounds: Tensor,
    targets: Labels,
    output: Output,
) -> Tensor:
    """The scores (N, bounds) after the pixels whose rank in `order` lies below each bound have changed."""
    count = len(bounds)
    owners = [row for row in range(len(start)) for _ in range(count)]
    each = targets.repeat_interleave(count)
    ranks = torch.zeros_like(order, dtype=bounds.dtype)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device, dtype=bounds.dtype).expand_as(order))

    def show(owner: int, part: slice, shown: Tensor) -> None:
        changed = bounds[part.start - owner * count : part.stop - owner * count]
        torch.lt(ranks[owner], changed[:, None], out=shown)

    def judge(logits: Logits, part: slice) -> Tensor:
        return score(logits, each[part], output)

    return evaluate_masked(model, start, end, owners, show, judge).view(len(start), count)


def _area(curves: Tensor) -> Tensor:
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2
