"""Small ONNX nets whose extremes are known, and properties about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy
import onnx
from onnx import helper, numpy_helper

Layers = list[tuple[numpy.ndarray, numpy.ndarray]]


def random_layers(sizes: Sequence[int], seed: int) -> Layers:
    """Weights (inputs, outputs) and biases of a net of dense layers, in float32."""
    generator = numpy.random.default_rng(seed)
    layers = []
    for before, after in pairwise(sizes):
        weight = generator.normal(0, (2 / before) ** 0.5, (before, after)).astype("float32")
        layers.append((weight, generator.normal(0, 0.1, after).astype("float32")))
    return layers


def write_net(path: Path, layers: Layers, shape: Sequence[int | str], *, ending: Sequence[str] = ()) -> Path:
    """A net of MatMul, Add and Relu behind an input of any shape; Flatten first where it has more than two axes."""
    nodes, weights, value = [], [], "X"
    if len(shape) > 2:
        nodes.append(helper.make_node("Flatten", ["X"], ["flat"], axis=1))
        value = "flat"
    for i, (weight, bias) in enumerate(layers):
        weights += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]))
        value = f"a{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"r{i}"]))
            value = f"r{i}"
    for i, operator in enumerate(ending):
        nodes.append(helper.make_node(operator, [value], [f"e{i}"], name=f"last_{operator}"))
        value = f"e{i}"
    outputs = [*([shape[0]] if len(shape) > 1 else []), layers[-1][0].shape[1]]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, outputs)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def property_text(low: Sequence[float], high: Sequence[float], outputs: int, condition: str) -> str:
    """A property with one box."""
    lines = ["; a box"]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(low))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    lines += [
        f"(assert (>= X_{i} {a!r}))\n(assert (<= X_{i} {b!r}))" for i, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    return "\n".join([*lines, condition, ""])


def exact_minimum(layers: Layers, low: Sequence[float], high: Sequence[float], output: Sequence[float]) -> float:
    """The smallest value of a linear function of the outputs of a net with one hidden layer, by MILP."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    (first, bias), (second, last) = [(w.astype(float), b.astype(float)) for w, b in layers]
    inputs, hidden = first.shape
    centre, radius = (numpy.add(high, low)) / 2, (numpy.subtract(high, low)) / 2
    upper = centre @ first + bias + radius @ abs(first)
    lower = centre @ first + bias - radius @ abs(first)
    upper, lower = numpy.maximum(upper, 0), numpy.minimum(lower, 0)
    eye, zero = numpy.eye(hidden), numpy.zeros((hidden, hidden))
    cost = numpy.concatenate([numpy.zeros(inputs), second @ numpy.asarray(output), numpy.zeros(hidden)])
    constraints = [
        LinearConstraint(numpy.hstack([-first.T, eye, zero]), bias, numpy.inf),
        LinearConstraint(numpy.hstack([-first.T, eye, -numpy.diag(lower)]), -numpy.inf, bias - lower),
        LinearConstraint(numpy.hstack([numpy.zeros((hidden, inputs)), eye, -numpy.diag(upper)]), -numpy.inf, 0),
    ]
    ends = Bounds(
        numpy.concatenate([low, numpy.zeros(2 * hidden)]), numpy.concatenate([high, upper, numpy.ones(hidden)])
    )
    whole = numpy.concatenate([numpy.zeros(inputs + hidden), numpy.ones(hidden)])
    solved = milp(cost, constraints=constraints, bounds=ends, integrality=whole, options={"mip_rel_gap": 0})
    assert solved.success
    return float(solved.fun + last @ numpy.asarray(output))
