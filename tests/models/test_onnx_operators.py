"""Each ONNX operator that classifiers use, old and new, answers as onnxruntime does, with the true gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.core.errors import ModelError
from tests.models.onnx_models import close, head, helper, module_of, node, pictures, runtime_answer, weights, write

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

KERNEL = weights(1, 4, 3, 3, 3)
CONV = [node("Conv", "x kernel", "f", pads=[1, 1, 1, 1])]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


Case = tuple[int, list[Any], dict[str, np.ndarray]]
"""The opset, nodes from `x` or from the features `f` (N, 4, 8, 8) to `g`, and constants."""


def unary(op: str, opset: int = 20, **attributes: Any) -> Case:
    return opset, [node(op, "f", "g", **attributes)], {}


def pool(op: str, opset: int = 20, **attributes: Any) -> Case:
    return opset, [node(op, "f", "g", kernel_shape=[3, 3], **attributes)], {}


def resize(opset: int = 19, scales: tuple[float, ...] = (1, 1, 1.7, 2), **attributes: Any) -> Case:
    constants = {"scales": np.array(scales, np.float32)}
    return opset, [node("Resize", "f - scales", "g", **attributes)], constants


CASES: dict[str, Case] = {
    **{
        op: unary(op)
        for op in ("Abs", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Selu")
    },
    **{op: unary(op) for op in ("Sigmoid", "Softplus", "Softsign", "Tanh", "Celu", "ThresholdedRelu", "Shrink", "Sin")},
    "Gelu": unary("Gelu"),
    "Gelu by tanh": unary("Gelu", approximate="tanh"),
    "Swish": unary("Swish", 24),
    "PRelu": (16, [node("PRelu", "f slope", "g")], {"slope": weights(2, 4, 1, 1)}),
    "Clip with attributes": unary("Clip", 7, min=0.0, max=6.0),
    "Clip with inputs": (13, [node("Clip", "f low high", "g")], {"low": number(-0.2), "high": number(0.3)}),
    "Clip on one side": (13, [node("Clip", "f - high", "g")], {"high": number(0.3)}),
    "ReduceMean with an attribute": (
        17,
        [node("ReduceMean", "f", "m", axes=[1], keepdims=1), node("Mul", "f m", "g")],
        {},
    ),
    "ReduceMean with an input": (
        18,
        [node("ReduceMean", "f axes", "m"), node("Mul", "f m", "g")],
        {"axes": ints(-1, 2)},
    ),
    "ReduceL2": (18, [node("ReduceL2", "f axes", "m"), node("Div", "f m", "g")], {"axes": ints(1)}),
    "ReduceMax of all": (18, [node("ReduceMax", "f axes", "m"), node("Sub", "f m", "g")], {"axes": ints(1, 2, 3)}),
    "Split into equal parts": (
        18,
        [node("Split", "f", "a b", axis=1, num_outputs=2), node("Concat", "b a", "g", axis=1)],
        {},
    ),
    "Split by sizes": (
        13,
        [node("Split", "f sizes", "a b", axis=1), node("Concat", "b a", "g", axis=1)],
        {"sizes": ints(1, 3)},
    ),
    "Split by an attribute": (
        11,
        [node("Split", "f", "a b", axis=1, split=[3, 1]), node("Concat", "b a", "g", axis=1)],
        {},
    ),
    "Slice with a step": (
        13,
        [node("Slice", "f starts ends axes steps", "g")],
        {"starts": ints(0, -1), "ends": ints(9, -9), "axes": ints(2, 3), "steps": ints(2, -1)},
    ),
    "Slice with attributes": (9, [node("Slice", "f", "g", starts=[1], ends=[100], axes=[3])], {}),
    "MaxPool": pool("MaxPool", strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool with ceil_mode": pool("MaxPool", strides=[2, 2], ceil_mode=1),
    "MaxPool with uneven pads": pool("MaxPool", strides=[2, 2], pads=[0, 0, 1, 1]),
    "MaxPool as TensorFlow pads": pool("MaxPool", strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool": pool("AveragePool", strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool with ceil_mode": pool("AveragePool", strides=[2, 2], ceil_mode=1),
    "AveragePool with ceil_mode and counted pads": pool(
        "AveragePool", strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1
    ),
    "AveragePool with uneven pads": pool("AveragePool", strides=[2, 2], pads=[0, 0, 1, 1]),
    "AveragePool as TensorFlow pads": pool("AveragePool", strides=[2, 2], auto_pad="SAME_UPPER"),
    "Conv as TensorFlow pads": (
        20,
        [node("Conv", "f k", "g", strides=[2, 2], auto_pad="SAME_UPPER")],
        {"k": weights(3, 4, 4, 3, 3)},
    ),
    "Conv padded below": (
        20,
        [node("Conv", "f k", "g", strides=[2, 2], auto_pad="SAME_LOWER")],
        {"k": weights(3, 4, 4, 4, 4)},
    ),
    "depthwise Conv": (20, [node("Conv", "f k", "g", group=4, pads=[1] * 4)], {"k": weights(3, 4, 1, 3, 3)}),
    "ConvTranspose": (
        20,
        [node("ConvTranspose", "f k", "g", strides=[2, 2], pads=[1] * 4)],
        {"k": weights(3, 4, 4, 3, 3)},
    ),
    "BatchNormalization": (
        15,
        [node("BatchNormalization", "f s b m v", "g")],
        {"s": weights(1, 4), "b": weights(2, 4), "m": weights(3, 4), "v": weights(4, 4) ** 2 + 0.5},
    ),
    "InstanceNormalization": (
        20,
        [node("InstanceNormalization", "f s b", "g")],
        {"s": weights(1, 4), "b": weights(2, 4)},
    ),
    "GroupNormalization": (
        21,
        [node("GroupNormalization", "f s b", "g", num_groups=2)],
        {"s": weights(1, 4), "b": weights(2, 4)},
    ),
    "LayerNormalization": (
        17,
        [node("LayerNormalization", "f s b", "g", axis=-1)],
        {"s": weights(1, 8), "b": weights(2, 8)},
    ),
    "LayerNormalization over channels and places": (
        17,
        [node("LayerNormalization", "f s", "g", axis=1)],
        {"s": weights(1, 4, 8, 8)},
    ),
    "LRN": (20, [node("LRN", "f", "g", size=3, alpha=0.5)], {}),
    "LpNormalization": unary("LpNormalization", axis=1),
    "Softmax of old coerces to two axes": unary("Softmax", 11, axis=2),
    "Softmax": unary("Softmax", 13, axis=1),
    "LogSoftmax": unary("LogSoftmax", 13, axis=1),
    "Einsum": (20, [node("Einsum", "f w", "g", equation="nchw,cd->ndhw")], {"w": weights(1, 4, 4)}),
    "MatMul by weights": (20, [node("MatMul", "f w", "g")], {"w": weights(1, 8, 6)}),
    "MatMul of features": (20, [node("Transpose", "f", "t", perm=[0, 1, 3, 2]), node("MatMul", "f t", "g")], {}),
    "Gather": (20, [node("Gather", "f places", "g", axis=3)], {"places": ints(0, -1, 3)}),
    "Expand": (
        20,
        [node("GlobalAveragePool", "f", "p"), node("Expand", "p sizes", "g")],
        {"sizes": ints(1, 4, 6, 6)},
    ),
    "Tile": (20, [node("Tile", "f times", "g")], {"times": ints(1, 1, 2, 1)}),
    "Pad": (20, [node("Pad", "f pads", "g", mode="reflect")], {"pads": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "Pad the edge": (20, [node("Pad", "f pads", "g", mode="edge")], {"pads": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "Pad by axes": (
        18,
        [node("Pad", "f pads value axes", "g")],
        {"pads": ints(1, 2), "value": number(0.5), "axes": ints(3)},
    ),
    "DepthToSpace": (
        20,
        [node("DepthToSpace", "f", "d", blocksize=2), node("Tile", "d t", "g")],
        {"t": ints(1, 4, 1, 1)},
    ),
    "SpaceToDepth": (
        20,
        [node("SpaceToDepth", "f", "s", blocksize=2), node("Conv", "s k", "g")],
        {"k": weights(5, 4, 16, 1, 1)},
    ),
    "Where": (
        20,
        [node("Greater", "f zero", "c"), node("Neg", "f", "o"), node("Where", "c f o", "g")],
        {"zero": number(0)},
    ),
    "Max and Min": (
        20,
        [node("Max", "f low", "m"), node("Min", "m high", "g")],
        {"low": number(-0.1), "high": number(0.2)},
    ),
    "Pow": (20, [node("Abs", "f", "a"), node("Pow", "a two", "g")], {"two": number(1.5)}),
    "Cast there and back": (20, [node("Cast", "f", "d", to=11), node("Cast", "d", "g", to=1)], {}),
    "Dropout": (13, [node("Dropout", "f ratio", "g")], {"ratio": number(0.5)}),
    "Unsqueeze and Squeeze": (
        13,
        [node("Unsqueeze", "f axes", "u"), node("Squeeze", "u axes", "g")],
        {"axes": ints(-1)},
    ),
    "Squeeze with an attribute": (11, [node("Unsqueeze", "f", "u", axes=[1]), node("Squeeze", "u", "g", axes=[1])], {}),
    "CumSum": (14, [node("CumSum", "f axis", "g", exclusive=1, reverse=1)], {"axis": np.array(2, np.int64)}),
    "Upsample": (9, [node("Upsample", "f s", "g", mode="nearest")], {"s": np.array([1, 1, 2, 2], np.float32)}),
    "Resize of opset 10": (10, [node("Resize", "f s", "g", mode="linear")], {"s": np.array([1, 1, 2, 3], np.float32)}),
    "Resize to the nearest": resize(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "Resize to the nearest by halves": resize(mode="nearest"),
    "Resize linearly": resize(mode="linear"),
    "Resize linearly by corners": resize(
        mode="linear", coordinate_transformation_mode="align_corners", scales=(1, 1, 2, 2)
    ),
    "Resize downwards": resize(mode="linear", scales=(1, 1, 0.5, 0.75)),
    "Resize cubically": resize(mode="cubic", scales=(1, 1, 2, 1.5)),
    "Resize with antialias": resize(mode="linear", antialias=1, scales=(1, 1, 0.5, 0.5)),
    "Resize to sizes": (18, [node("Resize", "f - - sizes", "g", mode="linear", axes=[2, 3])], {"sizes": ints(5, 11)}),
}


def in_file(path: Path, case: Case) -> Path:
    opset, nodes, constants = case
    end, dense = head("g")
    sized = [node("GlobalAveragePool", "g", "pooled"), *end[1:]]
    return write(path, [*CONV, *nodes, *sized], {"kernel": KERNEL, **constants, **dense}, opset=opset)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_answers_as_onnxruntime_does_with_the_true_gradient(name: str, tmp_path: Path) -> None:
    path, images = in_file(tmp_path / "net.onnx", CASES[name]), pictures()
    module = module_of(path)
    assert close(module(images), runtime_answer(path, images), 2e-5)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(leaf)[:, 1].sum(), leaf)
    if name == "Cast there and back":  # the graph itself goes back to single precision
        return
    module.net.double()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).double()
    with torch.no_grad():
        ahead, behind = (module.net(images.double() + sign * 1e-6 * direction)[:, 1].sum() for sign in (1, -1))
    slope = float(ahead - behind) / 2e-6
    assert abs(float((gradient * direction).sum()) - slope) <= 1e-3 * abs(slope) + 1e-4


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("NonMaxSuppression", "x x", "f"), node("Col2Im", "f x x", "g")], "Col2Im, NonMaxSuppression"),
        ([node("BiasGelu", "x bias", "f", domain="com.microsoft")], "onnxruntime writes some of them"),
        ([node("RandomNormalLike", "x", "r"), node("Add", "x r", "f")], r"call net\.eval\(\)"),
        ([node("BatchNormalization", "x b b b b", "f q r", training_mode=1)], r"call net\.eval\(\)"),
    ],
)
def test_operators_that_are_not_converted_are_named_with_a_remedy(nodes: list[Any], said: str, tmp_path: Path) -> None:
    end, dense = head(nodes[-1].output[0], 3)
    imports = [helper.make_opsetid("com.microsoft", 1)]
    path = write(
        tmp_path / "net.onnx",
        [*nodes, *end],
        {"bias": weights(1, 8), "b": weights(1, 3) ** 2, **dense},
        imports=imports,
    )
    with pytest.raises(ModelError, match=said):
        module_of(path)
