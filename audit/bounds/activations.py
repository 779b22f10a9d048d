"""Elementwise activations between two straight lines each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_BISECTIONS = 30
_TIED = 2.0**-16
ULPS = 8
"""Units of roundoff of the result within which frameworks evaluate a smooth activation in float32."""


class Lines(NamedTuple):
    """A line below and a line above an activation between two ends, as slopes and intercepts.

    Attributes:
        low_slope: (N, *shape).
        low_intercept: (N, *shape).
        high_slope: (N, *shape).
        high_intercept: (N, *shape).
    """

    low_slope: Tensor
    low_intercept: Tensor
    high_slope: Tensor
    high_intercept: Tensor


@dataclass(frozen=True)
class Activation:
    """A function of one number that never falls, applied to every value.

    Attributes:
        kind: "relu", "sigmoid", "tanh", "softplus" or "elu".
        function: The function.
        derivative: Its derivative; None for ReLU, whose lines need none.
        convex: Whether it is convex everywhere; else it is convex below 0 and concave above, as sigmoid and tanh are.
    """

    kind: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor] | None = None
    convex: bool = True

    def apply(self, inputs: Tensor) -> Tensor:
        """The outputs.

        Args:
            inputs: Any tensor.
        """
        return self.function(inputs)

    def lines(self, low: Tensor, high: Tensor, slope: Tensor | None = None) -> Lines:
        """Two lines that hold the function between two ends.

        Args:
            low: Lower ends, (N, *shape).
            high: Upper ends, at least `low`.
            slope: Slope in [0, 1] of the line below an unstable ReLU, (N, S or 1, *shape); None for 1 where the upper
                end is further from 0 than the lower one, else 0 (arXiv:1811.00866). Not used by others.
        """
        if self.derivative is None:
            return _relu_lines(low, high, slope)
        if self.convex:
            return _convex_lines(self.function, self.derivative, low, high)
        return _s_shaped_lines(self.function, self.derivative, low, high)


def usual_slope(low: Tensor, high: Tensor) -> Tensor:
    """1 where the upper end is further from 0 than the lower one by more than rounding, else 0.

    Ties are common, as where one pixel is compared with itself; without the margin, rounding would choose.

    Args:
        low: Lower ends.
        high: Upper ends.
    """
    return (high > -low * (1 + _TIED)).to(low.dtype)


def _relu_lines(low: Tensor, high: Tensor, slope: Tensor | None) -> Lines:
    """The triangle (arXiv:1711.00851); exact where the sign is known."""
    below, above = low.clamp(max=0), high.clamp(min=0)
    upper = above / (above - below).clamp(min=1e-37)
    if slope is None:
        lower = usual_slope(low, high)
    else:
        unstable = ((low < 0) & (high > 0)).to(low.dtype)
        lower = torch.addcmul((low >= 0).to(low.dtype)[:, None], slope, unstable[:, None])
    return Lines(lower, torch.zeros((), dtype=low.dtype, device=low.device), upper, -below * upper)


def _through(function: Callable[[Tensor], Tensor], at: Tensor, slope: Tensor) -> Tensor:
    """The intercept of the line of a slope through the function at a point."""
    return function(at) - slope * at


def _chord(
    function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
) -> Tensor:
    wide = high - low > 1e-9
    width = torch.where(wide, high - low, 1)
    return torch.where(wide, (function(high) - function(low)) / width, derivative(high))


def _convex_lines(
    function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
) -> Lines:
    """The tangent in the middle below, the chord above."""
    middle = (low + high) / 2
    below, above = derivative(middle), _chord(function, derivative, low, high)
    top = torch.maximum(_through(function, low, above), _through(function, high, above))
    return Lines(below, _through(function, middle, below), above, top)


def _s_shaped_lines(
    function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
) -> Lines:
    """Chords and tangents (arXiv:1811.00866), an end's tangent found by bisection from its safe side."""
    chord = _chord(function, derivative, low, high)
    above, top = _line_above(function, derivative, low, high, chord)
    below, bottom = _line_above(lambda x: -function(-x), lambda x: derivative(-x), -high, -low, chord)
    return Lines(below, -bottom, above, top)


def _line_above(
    function: Callable[[Tensor], Tensor],
    derivative: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    chord: Tensor,
) -> tuple[Tensor, Tensor]:
    """Slope and intercept of a line above: the chord where it lies above, else a tangent right of 0."""
    concave = low >= 0
    by_chord = (high <= 0) | (~concave & (derivative(high) >= chord))
    at = torch.where(concave, (low + high) / 2, _touching(function, derivative, low, high))
    slope = torch.where(by_chord, chord, derivative(at))
    ends = torch.maximum(_through(function, low, slope), _through(function, high, slope))
    return slope, torch.where(by_chord, ends, torch.maximum(_through(function, at, slope), ends))


def _touching(
    function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
) -> Tensor:
    """A point right of 0 whose tangent lies above the function at `low`, nearly touching it there."""
    near, far = torch.zeros_like(low), high.clamp(min=0)
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        above = function(middle) + derivative(middle) * (low - middle) >= function(low)
        near, far = torch.where(above, near, middle), torch.where(above, middle, far)
    return far


def _sigmoid_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


def _tanh_slope(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x) ** 2


RELU = Activation("relu", torch.relu)
SIGMOID = Activation("sigmoid", torch.sigmoid, _sigmoid_slope, convex=False)
TANH = Activation("tanh", torch.tanh, _tanh_slope, convex=False)


def softplus(beta: float) -> Activation:
    """Softplus without its linear part beyond a threshold, which is within rounding of it.

    Args:
        beta: Above 0.
    """
    return Activation(
        "softplus",
        lambda x: functional.softplus(x, beta=beta, threshold=1e9 if beta <= 1 else 700.0),
        lambda x: torch.sigmoid(beta * x),
    )


def elu(alpha: float) -> Activation:
    """ELU, which is convex for an alpha up to 1.

    Args:
        alpha: In [0, 1].
    """
    return Activation(
        "elu",
        lambda x: functional.elu(x, alpha),
        lambda x: torch.where(x > 0, torch.ones_like(x), alpha * x.clamp(max=0).exp()),
    )
