"""Quantised ONNX operators: whole numbers held in floats, gradients straight through the rounding.

Rounding has no gradient of use; the straight-through estimator (Bengio et al., arXiv:1308.3432) takes it for the
identity, and 0 where the range is exceeded. Answers are those of the rounded numbers.
"""

from __future__ import annotations

from typing import Any

import torch

from audit.models.formats.onnx_node import OPERATORS, Node, operator_of

QUANTISED = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)
"""Operators that round what flows through them."""

_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}


def _along(node: Node, parameter: Any, index: int, axis: int) -> Any:
    """Scale or zero point of each channel, laid along its axis."""
    if node.ranks[index] == 0 or parameter is None:
        return parameter
    if node.ranks[index] > 1 or node.get("block_size", 0):
        raise TypeError("quantisation in blocks is not converted")
    return parameter.reshape([-1 if i == axis % node.ranks[0] else 1 for i in range(node.ranks[0])])


def _quantised(values: Any, scale: Any, zero: Any, kind: torch.dtype | None) -> Any:
    if kind is not None and kind not in _RANGES:
        raise TypeError(f"quantisation to {kind} is not converted")
    low, high = _RANGES[kind or torch.uint8]
    steps = values / scale
    shift = torch.zeros_like(scale) if zero is None else zero
    # In steps of 1, with gradient 1 to both ends of the range, where that of torch's clamp is 0 since 2.14.
    if scale.ndim == 0 or scale.shape == (1,):
        one = torch.ones_like(scale)
        return torch.fake_quantize_per_tensor_affine(steps, one, shift.to(torch.int32), low, high) + shift.float()
    level = torch.round(steps) + shift.float()
    passing = torch.where((level >= low) & (level <= high), steps, 0.0)
    return torch.clamp(level, low, high).detach() + (passing - passing.detach())


def _real(values: Any, scale: Any, zero: Any) -> Any:
    return (values.float() - (0.0 if zero is None else zero.float())) * scale


@operator_of("QuantizeLinear")
def _quantise(node: Node, values: Any, scale: Any, zero: Any = None) -> Any:
    axis = node.get("axis", 1)
    kind = node.types[2] if len(node.types) > 2 else None
    return _quantised(values, _along(node, scale, 1, axis), zero if zero is None else _along(node, zero, 2, axis), kind)


@operator_of("DequantizeLinear")
def _dequantise(node: Node, values: Any, scale: Any, zero: Any = None) -> Any:
    axis = node.get("axis", 1)
    return _real(values, _along(node, scale, 1, axis), zero if zero is None else _along(node, zero, 2, axis))


@operator_of("DynamicQuantizeLinear")
def _quantise_by_range(node: Node, values: Any) -> Any:
    low, high = values.amin().clamp(max=0), values.amax().clamp(min=0)
    scale = ((high - low) / 255).detach()
    zero = torch.round(torch.clamp(-low / scale, 0, 255)).detach()
    return _quantised(values, scale, zero, torch.uint8), scale, zero


def _per_filter(node: Node, parameter: Any, index: int) -> Any:
    return parameter if node.ranks[index] == 0 else parameter.reshape(-1, *[1] * (node.ranks[0] - 1))


@operator_of("QLinearConv")
def _quantised_conv(
    node: Node,
    x: Any,
    x_scale: Any,
    x_zero: Any,
    w: Any,
    w_scale: Any,
    w_zero: Any,
    y_scale: Any,
    y_zero: Any,
    b: Any = None,
) -> Any:
    weight = _real(w, _per_filter(node, w_scale, 4), _per_filter(node, w_zero, 5))
    bias = None if b is None else b.float() * (x_scale * w_scale).reshape(-1)
    return _quantised(OPERATORS["Conv"](node, _real(x, x_scale, x_zero), weight, bias), y_scale, y_zero, node.types[7])


@operator_of("QLinearMatMul")
def _quantised_matmul(
    node: Node, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    product = _real(a, a_scale, a_zero) @ _real(b, b_scale, b_zero)
    return _quantised(product, y_scale, y_zero, node.types[7])


@operator_of("ConvInteger")
def _whole_conv(node: Node, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    zero = w_zero if w_zero is None or len(node.ranks) < 4 else _per_filter(node, w_zero, 3)
    return OPERATORS["Conv"](node, _real(x, 1.0, x_zero), _real(w, 1.0, zero))


@operator_of("MatMulInteger")
def _whole_matmul(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    return _real(a, 1.0, a_zero) @ _real(b, 1.0, b_zero)
