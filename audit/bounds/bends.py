"""Coefficients through pairs of lines, with the derivatives written out.

Where a coefficient is positive the line below counts, where it is negative the line above. Written with `clamp` and
`where`, the derivatives take most of a step of alpha-CROWN: a `where` on a processor costs as much as thirty products
(torch 2.14.1), and clamps have one in their derivative. `threshold_backward` keeps numbers by a sign at the cost of a
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def bent(a: Tensor, low_slope: Tensor, high_slope: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the inputs of an activation: max(a, 0) low_slope + min(a, 0) high_slope.

    Args:
        a: Coefficients of its outputs, (N, S, *shape).
        low_slope: Slopes of the lines below, (N, S or 1, *shape).
        high_slope: Slopes of the lines above, (N, 1, *shape).

    Returns:
        The coefficients, and min(a, 0), which multiplies the intercepts of the lines above.
    """
    result: tuple[Tensor, Tensor] = _Bent.apply(a, low_slope, high_slope)
    return result


class _Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, low_slope: Tensor, high_slope: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, low_slope, high_slope)
        above, below = a.clamp(min=0), a.clamp(max=0)
        return torch.addcmul(above.mul_(low_slope), below, high_slope), below

    @staticmethod
    def backward(ctx: Any, of_back: Tensor, of_below: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        a, low_slope, high_slope = ctx.saved_tensors
        of_a: Tensor | None = None
        if ctx.needs_input_grad[0]:
            of_a = _by_sign(a, of_back * low_slope, torch.addcmul(of_below, of_back, high_slope))
        low = _summed(of_back * a.clamp(min=0), low_slope) if ctx.needs_input_grad[1] else None
        high = _summed(of_back * a.clamp(max=0), high_slope) if ctx.needs_input_grad[2] else None
        return of_a, low, high


def bent_into_tiles(
    a: Tensor, low: Tensor, high: Tensor, tiles: tuple[int, int], source: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Coefficients of the values of windows that lie side by side, each value with lines of its own.

    Args:
        a: Coefficients of what the windows come to, (N, S, C, h, w).
        low: Slopes of the lines below, (N, S or 1, K, C, h, w), K places of a window row by row.
        high: Slopes of the lines above, (N, 1, K, C, h, w).
        tiles: Height and width of a window.
        source: Shape of the values, (C, H, W).

    Returns:
        The coefficients (N, S, C, H, W), and min(a, 0).
    """
    result: tuple[Tensor, Tensor] = _BentIntoTiles.apply(a, low, high, tiles, tuple(source))
    return result


class _BentIntoTiles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, low: Tensor, high: Tensor, tiles: tuple[int, int], source: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, low, high)
        ctx.tiles = tiles
        above, below = a.clamp(min=0), a.clamp(max=0)
        whole = (a.shape[-2] * tiles[0], a.shape[-1] * tiles[1]) == source[-2:]
        back = (a.new_empty if whole else a.new_zeros)(*a.shape[:2], *source)
        for k, part in enumerate(_places_of_tiles(back, a, tiles)):
            part.copy_((above * low[:, :, k]).addcmul_(below, high[:, :, k]))
        return back, below

    @staticmethod
    def backward(
        ctx: Any, of_back: Tensor, of_below: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        a, low, high = ctx.saved_tensors
        parts = [part.contiguous() for part in _places_of_tiles(of_back, a, ctx.tiles)]
        of_a: Tensor | None = None
        if ctx.needs_input_grad[0]:
            positive, negative = torch.zeros_like(a), of_below.clone()
            for k, part in enumerate(parts):
                positive.addcmul_(part, low[:, :, k])
                negative.addcmul_(part, high[:, :, k])
            of_a = _by_sign(a, positive, negative)
        of_low = _of_slopes(parts, a.clamp(min=0), low) if ctx.needs_input_grad[1] else None
        of_high = _of_slopes(parts, a.clamp(max=0), high) if ctx.needs_input_grad[2] else None
        return of_a, of_low, of_high, None, None


def _of_slopes(parts: Sequence[Tensor], sided: Tensor, slopes: Tensor) -> Tensor:
    """The derivative to slopes from that to each place of the windows and the coefficients of their side."""
    result = slopes.new_empty(slopes.shape)
    for k, part in enumerate(parts):
        result[:, :, k] = _summed(part * sided, slopes[:, :, 0])
    return result


def _places_of_tiles(values: Tensor, like: Tensor, tiles: tuple[int, int]) -> list[Tensor]:
    """What each place of a window sees, (N, S, C, h, w) each, without copies."""
    (tall, wide), (h, w) = tiles, like.shape[-2:]
    inner = values[..., : h * tall, : w * wide]
    return [inner[..., k // wide :: tall, k % wide :: wide] for k in range(tall * wide)]


def _by_sign(a: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """One number where a is above 0, else another; both are written over."""
    result: Tensor = negative.add_(_aten.threshold_backward(positive.sub_(negative), a, 0))
    return result


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    return gradient.sum_to_size(like.shape)
