"""Segment masks of many images asked together, and random ones that spend answers already had."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.masking.queue import MaskQueue


def scores_of(queue: MaskQueue, masks: list[Tensor]) -> list[Tensor]:
    """The output under each image's own masks, float64 (M,) each; all on the CPU, through one queue.

    `masks` bool (M, segments) an image.
    """
    widest = max(mask.shape[1] for mask in masks)
    padded = torch.cat([torch.nn.functional.pad(mask, (0, widest - mask.shape[1])) for mask in masks])
    lengths = [len(mask) for mask in masks]
    owners = torch.arange(len(masks), device="cpu").repeat_interleave(torch.tensor(lengths, device="cpu"))
    device = queue.images.device
    found = queue.scores(owners.to(device), padded.to(device)).double().cpu()
    return list(torch.split(found, lengths))


def reuse_samples(queue: MaskQueue, row: int, drawn: Tensor, generator: Generators) -> Tensor:
    """`drawn` (M, segments) with as many masks as possible exchanged for ones offered for image `row`.

    A mask whose segments are shown independently with one probability is, given how many it shows, uniform among the
    masks of that size; so is every offered one. Exchanging equal sizes therefore keeps the distribution of each mask,
    and the estimator built on them, while it saves passes. Where nothing is offered, or every mask is known
    already, `drawn` comes back as it is. `generator` has one key. Offers what is left of `drawn` in turn.
    """
    pool = queue.offered(row)
    if len(pool) and len(pool) < 2 ** queue.sizes[row]:
        shuffled = pool[generator.permutations(len(pool))[0].cpu()]
        drawn = _exchange(drawn, shuffled)
    queue.offer(row, drawn)
    return drawn


def _exchange(drawn: Tensor, pool: Tensor) -> Tensor:
    """Size by size, the first masks drawn become the first of the pool."""
    exchanged, shown, offered = drawn.clone(), drawn.sum(1), pool.sum(1)
    for size in sorted(set(offered.tolist())):
        wanted, there = (shown == size).nonzero().flatten(), (offered == size).nonzero().flatten()
        count = min(len(wanted), len(there))
        exchanged[wanted[:count]] = pool[there[:count]]
    return exchanged
