"""Bounds propagated in float32 that hold all the same: what each rounding may cost is counted beside them.

A backward pass keeps the claim f(x) >= <a, z> + c for the value z that it has reached, where a are float32 numbers,
taken as exact. What a step rounds is an error in the coefficients of what comes before, and costs at most that error
times the size of those values. With u the unit roundoff, |z| <= m, and size = |W| m + |b| at z' = W z + b:

- The transposed map sums `fan_out` products a coefficient: computed in whatever order, it is within gamma(fan_out)
  |W|' |a| of the exact one (Higham 2002, section 3.1), which costs gamma(fan_out) <|a|, size>. That is the form of what
  the evaluation of the net itself may round, gamma(terms) <|a|, size>, so one vector stands for both.
- The box around z' has a centre and a radius, each within gamma(terms) size: it is wider by twice that.
- A product with the slope of an activation, a sum of what several values send back, the ends of a box and the terms of
  c cost a few u each, relative to a coefficient or an end. Those of the inputs of z' come out as at most <|a|, size> a
  u too, since |W' a| m <= <|a|, size>. `SINGLE_STEPS` of them are allowed for, and a value that goes into n others is
  charged 2 n u m more.
- Slopes are what they are after rounding: intercepts are found for these, and rounded outward (`outward_lines`).
- c, and the minimum over the image, are added in float64, up to sums over the places of a channel or the channels of a
  place: these are added in float32 where all have one sign, or where they multiply an offset, and charged for it.
- The sum of the costs alone is a float32 one: of at most `COSTED` numbers, so that `COSTS` covers what it rounds.

`Affine.rounding` gives the vector, a quarter larger than that, which covers what it rounds itself. Numbers that
underflow are covered by a constant.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audit.bounds.activations import Activation, Lines
from audit.bounds.graph import UNIT, Box

COSTED = 2**17
"""Numbers of a value up to which its costs are summed in float32: within 2**17 u = 1/128."""
COSTS = 1 + 2.0**-6
UNDERFLOW = 1e-30
_OUTWARD = 16 * UNIT


def outward_box(low: Tensor, high: Tensor) -> Box:
    """The smallest box of float32 numbers around a box of float64 numbers.

    Args:
        low: Lower ends.
        high: Upper ends.
    """
    return Box(_rounded(low, -torch.inf), _rounded(high, torch.inf))


def outward_lines(activation: Activation, box: Box, slope: Tensor | None) -> Lines:
    """Lines whose slopes are float32 numbers and whose intercepts hold for just these slopes.

    Args:
        activation: The function.
        box: Ends in float32, (N, *shape).
        slope: As in `Activation.lines`.
    """
    low, high = box
    if activation.derivative is None:
        # The slope is s (1 + d) with |d| <= 3 u: the line must pass -s l at the lower end and u - s u at the upper.
        lines = activation.lines(low, high, slope)
        top = lines.high_intercept
        return lines._replace(high_intercept=top * (1 + _OUTWARD) + top.sign() * (high * _OUTWARD + UNDERFLOW))
    exact = activation.lines(low.double(), high.double())
    size = torch.maximum(low.abs(), high.abs()).double()
    below, above = exact.low_slope.float(), exact.high_slope.float()
    bottom = exact.low_intercept - (below.double() - exact.low_slope).abs() * size
    top = exact.high_intercept + (above.double() - exact.high_slope).abs() * size
    return Lines(below, _rounded(bottom, -torch.inf), above, _rounded(top, torch.inf))


def _rounded(values: Tensor, towards: float) -> Tensor:
    """The nearest float32 numbers, moved to the next where they are on the wrong side."""
    near = values.float()
    wrong = near.double() > values if towards < 0 else near.double() < values
    return torch.where(wrong, torch.nextafter(near, torch.full_like(near, towards)), near)
