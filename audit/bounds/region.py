"""The inputs that bounds hold for: a norm ball around each image within a box; minima of linear functions there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.threat_format import Norm

_BISECTIONS = 40
GUARD = 1e-10
"""Share of the sum of absolute terms by which a bound is lowered: far above what float64 rounds off in it."""


@dataclass(frozen=True)
class Region:
    """A ball around each centre within a box.

    Attributes:
        centre: (N, *shape).
        low: Lower ends of the box around the ball, (N, *shape).
        high: Upper ends, (N, *shape).
        norm: Norm of the ball.
        radius: Its radius.
    """

    centre: Tensor
    low: Tensor
    high: Tensor
    norm: Norm = "linf"
    radius: float = float("inf")

    @classmethod
    def ball(cls, images: Tensor, norm: Norm, radius: float) -> Region:
        """The ball around each image within [0, 1].

        Args:
            images: (N, C, H, W) in [0, 1].
            norm: Its norm.
            radius: Its radius, in units of the pixel range.
        """
        return cls(images, (images - radius).clamp(0, 1), (images + radius).clamp(0, 1), norm, radius)

    @classmethod
    def box(cls, low: Tensor, high: Tensor) -> Region:
        """A box alone.

        Args:
            low: (N, *shape).
            high: (N, *shape), at least `low`.
        """
        return cls((low + high) / 2, low, high)

    def select(self, index: Tensor | slice) -> Region:
        """Some of its rows.

        Args:
            index: Positions, int64 (M,), or a slice.
        """
        return Region(self.centre[index], self.low[index], self.high[index], self.norm, self.radius)

    def to(self, dtype: torch.dtype) -> Region:
        """The region in another precision.

        Args:
            dtype: Of its tensors.
        """
        return Region(self.centre.to(dtype), self.low.to(dtype), self.high.to(dtype), self.norm, self.radius)

    def minimum(self, coefficients: Tensor) -> Tensor:
        """A lower bound on the smallest value of linear functions, exact up to a bisection.

        For linf it is the corner of the box. For l2 and l1 it is the Lagrange dual of the ball's constraint at the best
        multiplier; every multiplier gives a valid bound.

        Args:
            coefficients: (N, S, *shape).

        Returns:
            (N, S).
        """
        if self.norm == "linf":
            centre, radius = (self.low + self.high) / 2, (self.high - self.low) / 2
            return _dot(coefficients, centre) - _dot(coefficients.abs(), radius)
        with torch.no_grad():
            _, multiplier = self._multipliers(coefficients)
        change = self._change(coefficients, multiplier)
        weight = multiplier.flatten(2).squeeze(2)
        if self.norm == "l2":
            penalty = weight / 2 * ((change**2).flatten(2).sum(2) - self.radius**2)
        else:
            penalty = weight * (change.abs().flatten(2).sum(2) - self.radius)
        return _dot(coefficients, self.centre) + (coefficients * change).flatten(2).sum(2) + penalty

    def minimiser(self, coefficients: Tensor) -> Tensor:
        """Where that value is reached, within the region up to rounding.

        Args:
            coefficients: (N, S, *shape).

        Returns:
            (N, S, *shape).
        """
        if self.norm == "linf":
            return torch.where(coefficients > 0, self.low[:, None], self.high[:, None])
        near, far = (self._change(coefficients, m) for m in self._multipliers(coefficients))
        if self.norm == "l1":  # The last pixel goes only part of its way.
            view = (*far.shape[:2], *(1,) * (far.ndim - 2))
            short, long = (c.abs().flatten(2).sum(2).view(view) for c in (far, near))
            far = far + (near - far) * ((self.radius - short) / (long - short).clamp(min=1e-12)).clamp(0, 1)
        return self.centre[:, None] + far

    def _change(self, coefficients: Tensor, multiplier: Tensor) -> Tensor:
        """The change within the box that minimises a x plus the multiplier times the ball's constraint."""
        down, up = (self.low - self.centre)[:, None], (self.high - self.centre)[:, None]
        if self.norm == "l2":
            return torch.minimum(torch.maximum(-coefficients / multiplier, down), up)
        return torch.where(coefficients.abs() > multiplier, torch.where(coefficients > 0, down, up), 0)

    def _multipliers(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The multipliers between which the change leaves the ball, (N, S, 1, ...); at the second it is inside."""
        flat = coefficients.flatten(2)
        view = (*flat.shape[:2], *(1,) * (coefficients.ndim - 2))
        size = flat.norm(dim=2) / self.radius if self.norm == "l2" else flat.abs().amax(2)
        near, far = torch.zeros_like(size), size.clamp(min=1e-300 if size.dtype == torch.float64 else 1e-30)
        for _ in range(_BISECTIONS):
            middle = (near + far) / 2
            change = self._change(coefficients, middle.view(view)).flatten(2)
            length = change.norm(dim=2) if self.norm == "l2" else change.abs().sum(2)
            outside = length > self.radius
            near, far = torch.where(outside, middle, near), torch.where(outside, far, middle)
        return near.view(view), far.view(view)


def _dot(coefficients: Tensor, values: Tensor) -> Tensor:
    """Rows of coefficients (N, S, *shape) times values (N, *shape)."""
    return torch.bmm(coefficients.flatten(2), values.flatten(1)[:, :, None]).squeeze(2)
