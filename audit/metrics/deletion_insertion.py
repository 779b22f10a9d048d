"""Deletion and insertion: the output as pixels are removed, or brought back, in the order of a map."""

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

RemovalMode = Literal["deletion", "insertion"]


@metric(reference="arXiv:1806.07421", unit="of the output", better="lower")
def deletion_area(curves: Tensor) -> Tensor:
    """The area under deletion curves, by trapezoids, (N,): low when what was ranked first decides.

    Args:
        curves: The output at equal shares of pixels removed, (N, steps + 1).
    """
    return _area(curves)


@metric(reference="arXiv:1806.07421", unit="of the output", better="higher")
def insertion_area(curves: Tensor) -> Tensor:
    """The area under insertion curves, by trapezoids, (N,): high when what was ranked first decides.

    Args:
        curves: The output at equal shares of pixels brought back, (N, steps + 1).
    """
    return _area(curves)


def removal_curves(
    model: ModelUnderTest,
    images: Images,
    orders: Mapping[str, Tensor],
    *,
    targets: Labels,
    fill: Images,
    mode: RemovalMode,
    steps: int = 24,
    output: Output = "probability",
) -> dict[str, Tensor]:
    """The target's output after equal shares of the pixels were changed, float32 (N, steps + 1) for each order.

    The two ends are the same for all orders and forwarded once.

    Args:
        model: The model to evaluate.
        images: Float32 (N, C, H, W) in [0, 1].
        orders: Pixels from first to last, int64 (N, H x W), by name.
        targets: The class of each image, int64 (N,).
        fill: What stands in place of removed pixels, float32 (N, C, H, W).
        mode: `deletion` goes from the image to the fill, `insertion` from the fill to the image.
        steps: Equal shares of the pixels.
        output: The quantity of the target class.
    """
    pixels = images.shape[2] * images.shape[3]
    bounds = torch.linspace(0, pixels, steps + 1, device="cpu", dtype=torch.float64).round().to(images)
    start, end = (images, fill) if mode == "deletion" else (fill, images)
    curves: dict[str, Tensor] = {}
    for name, order in orders.items():
        if not curves:
            first = curves[name] = _heights(model, start, end, order, bounds, targets, output)
        else:
            inner = _heights(model, start, end, order, bounds[1:-1], targets, output)
            curves[name] = torch.cat([first[:, :1], inner, first[:, -1:]], 1)
    return curves


def segment_curves(queue: MaskQueue, maps: Attributions, *, mode: RemovalMode, steps: int = 24) -> Tensor:
    """The queue's output after equal shares of each image's segments were changed, float32 (N, steps + 1).

    The same curves over segments instead of pixels: masks that explained the image already are not forwarded again.

    Args:
        queue: Evaluates masks of N images.
        maps: Attributions (N, C or 1, H, W), by whose mean segments are ranked.
        mode: `deletion` goes from the image to the baseline, `insertion` from the baseline to the image.
        steps: Equal shares of the segments.
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
    row_targets = targets.repeat_interleave(count)
    ranks = torch.zeros_like(order, dtype=bounds.dtype)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device, dtype=bounds.dtype).expand_as(order))

    def write_masks(owner: int, rows: slice, out: Tensor) -> None:
        changed = bounds[rows.start - owner * count : rows.stop - owner * count]
        torch.lt(ranks[owner], changed[:, None], out=out)

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return score(logits, row_targets[rows], output)

    return evaluate_masked(model, start, end, owners, write_masks, score_rows).view(len(start), count)


def _area(curves: Tensor) -> Tensor:
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2
