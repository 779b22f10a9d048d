"""Shapley values by enumeration of every coalition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import UsageError
from audit.explanation.precision import MapEstimate
from audit.masking.queue import MaskQueue

MAX_AUTO_SEGMENTS = 12
"""2^12 = 4096 masks an image: what `auto` still enumerates."""
MAX_EXACT_SEGMENTS = 20
"""What can be enumerated at all."""


@dataclass(frozen=True)
class ShapleyValues:
    """The Shapley values of one image's n segments, on the CPU.

    Attributes:
        estimate: The values, in units of the output, with their deviations; none where they are exact.
        efficiency_residual: What the values miss of output(image) - output(baseline).
    """

    estimate: MapEstimate
    efficiency_residual: float

    @classmethod
    def of(cls, values: Tensor, total: float, deviations: Tensor | None = None) -> ShapleyValues:
        """The values beside what they should sum to.

        Args:
            values: Float64 (n,).
            total: output(image) - output(baseline).
            deviations: Float64 (k, n), see `MapEstimate`; None where the values are exact.
        """
        estimate = MapEstimate(values, values.new_zeros(0, len(values)) if deviations is None else deviations)
        return cls(estimate, abs(float(values.sum()) - total))


def exact_shapley(queue: MaskQueue, row: int) -> ShapleyValues:
    """Shapley values from all 2^n masks of one image's n segments.

    Args:
        queue: Evaluates masks of N images.
        row: The image.

    Raises:
        UsageError: The image has more than 20 segments.
    """
    size = queue.sizes[row]
    if size > MAX_EXACT_SEGMENTS:
        raise UsageError(
            f"Exact Shapley values of {size} segments need 2^{size} masks; give at most {MAX_EXACT_SEGMENTS} segments, "
            "or algorithm='kernel'."
        )
    masks = every_coalition(size)
    outputs = masked_outputs(queue, row, masks)
    queue.offer_samples(row, masks)
    return ShapleyValues.of(shapley_from_table(masks, outputs), float(outputs[-1] - outputs[0]))


def every_coalition(size: int) -> Tensor:
    """All masks, bool (2^n, n); row 0 shows nothing and the last row everything.

    Args:
        size: The number n of segments.
    """
    codes = torch.arange(2**size, device="cpu")
    return (codes[:, None] >> torch.arange(size, device="cpu")).bitwise_and_(1).bool()


def masked_outputs(queue: MaskQueue, row: int, masks: Tensor) -> Tensor:
    """One image's output under masks, float64 (M,) on the CPU.

    Args:
        queue: Evaluates masks of N images.
        row: The image.
        masks: Bool (M, n).
    """
    device = queue.images.device
    owners = torch.full((len(masks),), row, dtype=torch.int64, device=device)
    return queue.scores(owners, masks.to(device)).cpu().double()


def shapley_from_table(masks: Tensor, outputs: Tensor) -> Tensor:
    """Shapley values of a game whose every coalition is known, float64 (n,), from their definition.

    Args:
        masks: Every coalition, bool (2^n, n).
        outputs: What each gains, float64 (2^n,).
    """
    size = masks.shape[1]
    # A member's value sums |S|! (n - |S| - 1)! / n! (v(S + member) - v(S)) over coalitions S without it.
    inside = torch.tensor(
        [0.0] + [1 / (size * math.comb(size - 1, k)) for k in range(size)], dtype=torch.float64, device="cpu"
    )
    outside = torch.tensor(
        [1 / (size * math.comb(size - 1, k)) for k in range(size)] + [0.0], dtype=torch.float64, device="cpu"
    )
    members = masks.sum(1)
    weights = torch.where(masks, inside[members][:, None], -outside[members][:, None])
    return weights.T @ outputs
