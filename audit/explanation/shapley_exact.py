"""Shapley values by enumeration of every coalition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import UsageError
from audit.masking.queue import MaskQueue

MOST_SEGMENTS = 12
"""2^12 = 4096 masks an image: what `auto` still enumerates."""
_LIMIT = 20


@dataclass(frozen=True)
class Shares:
    """Shapley values float64 (n,) on the CPU, their standard errors, and what they miss of the whole difference."""

    values: Tensor
    standard_errors: Tensor
    efficiency_residual: float


def exact_shapley(queue: MaskQueue, row: int) -> Shares:
    """The Shapley values of image `row`'s segments from all 2^n masks. Raises UsageError above 20 segments."""
    size = queue.sizes[row]
    if size > _LIMIT:
        raise UsageError(
            f"Exact Shapley values of {size} segments need 2^{size} masks; give at most {_LIMIT} segments, or "
            "algorithm='kernel'."
        )
    masks = every_coalition(size)
    outputs = ask(queue, row, masks)
    queue.offer(row, masks)
    values = shapley_from_table(masks, outputs)
    gap = float(outputs[-1] - outputs[0])
    return Shares(values, torch.zeros_like(values), abs(float(values.sum()) - gap))


def every_coalition(size: int) -> Tensor:
    """All masks of `size` segments, bool (2^size, size); row 0 shows nothing and the last row everything."""
    codes = torch.arange(2**size, device="cpu")
    return (codes[:, None] >> torch.arange(size, device="cpu")).bitwise_and_(1).bool()


def ask(queue: MaskQueue, row: int, masks: Tensor) -> Tensor:
    """Image `row`'s output under `masks` (M, n), float64 (M,) on the CPU."""
    device = queue.images.device
    owners = torch.full((len(masks),), row, dtype=torch.int64, device=device)
    return queue.scores(owners, masks.to(device)).double().cpu()


def shapley_from_table(masks: Tensor, outputs: Tensor) -> Tensor:
    """Shapley values float64 (n,) of a game given whole: `masks` bool (2^n, n), `outputs` float64 (2^n,)."""
    size = masks.shape[1]
    joined = torch.tensor(
        [0.0] + [1 / (size * math.comb(size - 1, k)) for k in range(size)], dtype=torch.float64, device="cpu"
    )
    left = torch.tensor(
        [1 / (size * math.comb(size - 1, k)) for k in range(size)] + [0.0], dtype=torch.float64, device="cpu"
    )
    members = masks.sum(1)
    weights = torch.where(masks, joined[members][:, None], -left[members][:, None])
    return weights.T @ outputs
