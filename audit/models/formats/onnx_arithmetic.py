"""ONNX operators that go element by element, and those that reduce."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audit.models.formats.onnx_node import OPERATORS, TYPES, Function, Node, axes_of, operator_of

_PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseNot": torch.bitwise_not,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "And": torch.logical_and,
    "Xor": torch.logical_xor,
    "Reciprocal": torch.reciprocal,
    "Relu": functional.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
"""Operators that torch has under another name, with the same arguments."""


def _plain(function: Callable[..., Any]) -> Function:
    def call(node: Node, *inputs: Any) -> Any:
        return function(*inputs)

    return call


OPERATORS.update({name: _plain(function) for name, function in _PLAIN.items()})
for _name, _operation in {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul}.items():
    OPERATORS[_name] = _plain(_operation)


@operator_of("Div")
def _div(node: Node, first: Any, second: Any) -> Any:
    return first / second if node.floating else torch.div(first, second, rounding_mode="trunc")


@operator_of("Pow")
def _pow(node: Node, base: Any, exponent: Any) -> Any:
    power = torch.pow(base, exponent)
    return power if node.floating else power.to(node.types[0])


@operator_of("Mod")
def _mod(node: Node, first: Any, second: Any) -> Any:
    return torch.fmod(first, second) if node.get("fmod", 0) else torch.remainder(first, second)


@operator_of("Sum")
def _sum(node: Node, *terms: Any) -> Any:
    return reduce(operator.add, terms)


@operator_of("Mean")
def _mean(node: Node, *terms: Any) -> Any:
    return reduce(operator.add, terms) / len(terms)


@operator_of("Max")
def _max(node: Node, *terms: Any) -> Any:
    return reduce(torch.maximum, terms)


@operator_of("Min")
def _min(node: Node, *terms: Any) -> Any:
    return reduce(torch.minimum, terms)


@operator_of("Where")
def _where(node: Node, condition: Any, chosen: Any, other: Any) -> Any:
    return torch.where(condition, chosen, other)


@operator_of("IsInf")
def _is_inf(node: Node, values: Any) -> Any:
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    signs = torch.isposinf(values) if up and not down else torch.isneginf(values)
    return torch.isinf(values) if up and down else signs if up or down else torch.zeros_like(values).bool()


@operator_of("Elu")
def _elu(node: Node, values: Any) -> Any:
    return functional.elu(values, node.get("alpha", 1.0))


@operator_of("Celu")
def _celu(node: Node, values: Any) -> Any:
    return functional.celu(values, node.get("alpha", 1.0))


@operator_of("Selu")
def _selu(node: Node, values: Any) -> Any:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return gamma * functional.elu(values, alpha)


@operator_of("LeakyRelu")
def _leaky_relu(node: Node, values: Any) -> Any:
    return functional.leaky_relu(values, node.get("alpha", 0.01))


@operator_of("ThresholdedRelu")
def _thresholded_relu(node: Node, values: Any) -> Any:
    return functional.threshold(values, node.get("alpha", 1.0), 0.0)


@operator_of("PRelu")
def _prelu(node: Node, values: Any, slope: Any) -> Any:
    if node.opset < 7 and node.ranks[1] == 1:
        slope = slope[(...,) + (None,) * (node.ranks[0] - 2)]
    return torch.where(values < 0, values * slope, values)


@operator_of("HardSigmoid")
def _hard_sigmoid(node: Node, values: Any) -> Any:
    return torch.clamp(values * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


@operator_of("HardSwish")
def _hard_swish(node: Node, values: Any) -> Any:
    return functional.hardswish(values)


@operator_of("Swish")
def _swish(node: Node, values: Any) -> Any:
    return values * torch.sigmoid(values * node.get("alpha", 1.0))


@operator_of("Gelu")
def _gelu(node: Node, values: Any) -> Any:
    return functional.gelu(values, approximate=node.get("approximate", "none"))


@operator_of("Shrink")
def _shrink(node: Node, values: Any) -> Any:
    limit, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    outer = torch.where(values > limit, values - bias, torch.zeros_like(values))
    return torch.where(values < -limit, values + bias, outer)


@operator_of("Clip")
def _clip(node: Node, values: Any, low: Any = None, high: Any = None) -> Any:
    low, high = node.get("min", low), node.get("max", high)
    bounds = [float(b) if node.floating and isinstance(b, Tensor) and b.numel() == 1 else b for b in (low, high)]
    return torch.clamp(values, *bounds) if any(b is not None for b in bounds) else values


@operator_of("Cast")
def _cast(node: Node, values: Any) -> Any:
    return values.to(TYPES[node.attributes["to"]])


@operator_of("CastLike")
def _cast_like(node: Node, values: Any, other: Any) -> Any:
    return values.to(node.types[1])


def _reduction(function: Callable[..., Any]) -> Function:
    def call(node: Node, values: Any, given: Tensor | None = None) -> Any:
        axes, keep = axes_of(node, given), bool(node.get("keepdims", 1))
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return function(values[None], [0], False)
            axes = list(range(node.ranks[0]))
        return function(values, axes, keep) if axes else function(values[None], [0], False)

    return call


def _prod(values: Any, axes: list[int], keep: bool) -> Any:
    rank = values.dim()
    for axis in sorted((axis % rank for axis in axes), reverse=True):
        values = values.prod(axis, keepdim=keep)
    return values


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}
OPERATORS.update({name: _reduction(function) for name, function in _REDUCTIONS.items()})


@operator_of("ArgMax", "ArgMin")
def _arg_extreme(node: Node, values: Any) -> Any:
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    find = torch.argmax if node.op == "ArgMax" else torch.argmin
    if node.get("select_last_index", 0):
        return values.size(axis) - 1 - find(values.flip(axis), axis, keepdim=keep)
    return find(values, axis, keepdim=keep)


@operator_of("CumSum")
def _cumulative_sum(node: Node, values: Any, axis: Any) -> Any:
    axis = int(axis)
    turned = values.flip(axis) if node.get("reverse", 0) else values
    sums = turned.cumsum(axis) if node.floating else turned.cumsum(axis, dtype=node.types[0])
    sums = sums - turned if node.get("exclusive", 0) else sums
    return sums.flip(axis) if node.get("reverse", 0) else sums


@operator_of("TopK")
def _top_k(node: Node, values: Any, count: Any = None) -> Any:
    size = int(count) if count is not None else node.attributes["k"]
    best = torch.topk(values, size, dim=node.get("axis", -1), largest=bool(node.get("largest", 1)))
    return [best[0], best[1]]


@operator_of("Softmax", "LogSoftmax", "Hardmax")
def _softmax(node: Node, values: Any) -> Any:
    functions: dict[str, Callable[..., Any]] = {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}
    functions["Hardmax"] = _hardmax
    function, axis = functions[node.op], node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset >= 13 or axis % node.ranks[0] == node.ranks[0] - 1:
        return function(values, axis)
    return function(values.flatten(axis % node.ranks[0]), -1).reshape(values.shape)


def _hardmax(values: Any, axis: int) -> Any:
    return torch.zeros_like(values).scatter(axis, values.argmax(axis, keepdim=True), 1)
