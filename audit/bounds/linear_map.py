"""Maps without weights, transposed by the derivative of what computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.bounds.graph import Affine


def linear_map(function: Callable[..., Tensor], shapes: Sequence[Sequence[int]], **options: Any) -> Affine:
    """A map without negative coefficients and weights: views, sums, means and their like.

    Args:
        function: Tensors (R, ...) to a tensor (R, ...), linear.
        shapes: Of the inputs, without the batch.
        options: Fields of `Affine`.
    """

    def transpose(coefficients: Tensor) -> Sequence[Tensor]:
        with torch.enable_grad():
            zeros = [coefficients.new_zeros(len(coefficients), *shape).requires_grad_() for shape in shapes]
            outputs = function(*zeros)
        return torch.autograd.grad(outputs, zeros, coefficients, create_graph=torch.is_grad_enabled())

    return Affine(function, transpose, **options)


def largest_fan_out(operation: Affine, ones: Tensor) -> int:
    """Outputs of one input, at most, of a map whose coefficients are 1 or those of means of fewer than `terms` numbers.

    Args:
        operation: The map.
        ones: Of the shape of an output, (1, ...).
    """
    with torch.no_grad():
        (sums,) = operation.transpose(ones)
    assert sums is not None
    return math.ceil(float(sums.amax()) * max(1, operation.terms - 1) * (1 + 1e-3) - 1e-2)
