"""One node of an ONNX graph as the operators see it, and the table of operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Function = Callable[..., Any]
"""(node, *inputs) to the node's output, or to a tuple of its outputs; an input that was left out is None."""

OPERATORS: dict[str, Function] = {}
"""What computes each operator, by its name in ONNX."""

_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_UNSIGNED = {torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.int64}
TYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.int64,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float64,
    12: torch.int64,
    13: torch.int64,
    16: torch.float32,
}
"""What each of TensorProto's element types is computed in: half precision in float32."""


@dataclass(frozen=True)
class Node:
    """What an operator needs to know beside its inputs.

    Attributes:
        op: The operator's name.
        attributes: By name; tensors are torch tensors.
        opset: The version of the operators that the file was written for.
        ranks: The number of dimensions of each input, -1 for one that was left out.
        types: The type of each input, None for one that was left out.
        outputs: How many outputs are named.
        shape: That of the first input beyond its batch, the batch as 0; None where images may have any size.
    """

    op: str
    attributes: Mapping[str, Any]
    opset: int
    ranks: tuple[int, ...]
    types: tuple[torch.dtype | None, ...]
    outputs: int = 1
    shape: tuple[int, ...] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute.

        Args:
            name: Its name.
            default: What it is where the file leaves it out.
        """
        return self.attributes.get(name, default)

    @property
    def floating(self) -> bool:
        """Whether the first input is of floats."""
        kind = self.types[0]
        return kind is not None and kind.is_floating_point


def operator_of(*names: str) -> Callable[[Function], Function]:
    """Enter a function into the table of operators.

    Args:
        names: The operators that it computes.
    """

    def enter(function: Function) -> Function:
        for name in names:
            OPERATORS[name] = function
        return function

    return enter


def attributes_of(proto: NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values; subgraphs stay as they are.

    Args:
        proto: The node.
    """
    helper = import_module("onnx.helper")
    values: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif attribute.type == attribute.TENSOR:
            value = tensor_of(value)
        elif isinstance(value, (list, tuple)) or hasattr(value, "extend"):
            value = list(value)
        values[attribute.name] = value
    return values


def tensor_of(proto: TensorProto) -> Tensor:
    """A constant of the file, half precision widened to float32.

    Args:
        proto: The constant, its data loaded.

    Raises:
        TypeError: Its type holds no numbers that torch computes with.
    """
    import numpy as np

    array = import_module("onnx.numpy_helper").to_array(proto)
    if array.dtype.kind in "OSU":
        raise TypeError("constants of text are not converted")
    if array.dtype.kind == "V" or array.dtype.name not in np.sctypeDict:  # bfloat16, float8 and int4 of ml_dtypes
        array = array.astype(np.float32 if "float" in array.dtype.name else np.int64)
    return widened(torch.from_numpy(np.array(array, order="C")))


def widened(tensor: Tensor) -> Tensor:
    """The tensor in the type that it is computed in.

    Args:
        tensor: Of any type.
    """
    kind = _WIDE.get(tensor.dtype) or _UNSIGNED.get(tensor.dtype)
    return tensor.to(kind) if kind else tensor


def ints(values: Any) -> list[int]:
    """Whole numbers that say a shape, axes or a place.

    Args:
        values: A tensor, a list or a number.
    """
    if isinstance(values, Tensor):
        return [int(value) for value in values.flatten().tolist()]
    return [int(values)] if isinstance(values, int) else [int(value) for value in values]


def axes_of(node: Node, given: Tensor | None, default: list[int] | None = None) -> list[int] | None:
    """Axes from the second input (newer operators) or from the attribute (older ones).

    Args:
        node: The node.
        given: The input, None where there is none.
        default: What they are where neither says.
    """
    if given is not None:
        return ints(given)
    axes = node.get("axes")
    return ints(axes) if axes is not None else default
