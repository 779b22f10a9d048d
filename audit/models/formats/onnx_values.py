"""A value of an ONNX graph while its net is built: what it is on two batches of different size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_SHAPE_INPUTS = {
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Inputs that say how, not what. Those of Reduce* too."""


@dataclass
class Example:
    """A value on the two batches.

    Attributes:
        first: On the first.
        second: On the second, of another size.
        constant: Whether it depends on nothing.
        of_shapes: Whether it depends on shapes only.
        outer: How much of the axis that holds the batch lies outside of it.
    """

    first: Any
    second: Any
    constant: bool = False
    of_shapes: bool = False
    outer: int = 1


def says_how(op: str, index: int) -> bool:
    """Whether an input says a shape, axes or a bound rather than numbers of the image; such ones stay on the processor.

    Args:
        op: The operator.
        index: The input's position.
    """
    return index in _SHAPE_INPUTS.get(op, ()) or (op.startswith("Reduce") and index == 1)


def column(examples: Sequence[Example | None], which: int) -> list[Any]:
    """The values on one of the two batches.

    Args:
        examples: A node's inputs, None for one that is left out.
        which: 0 or 1.
    """
    return [None if e is None else (e.first, e.second)[which] for e in examples]


def repeats(tensor: Tensor) -> bool:
    """Whether all rows are the same.

    Args:
        tensor: Of at least one axis.
    """
    return len(tensor) > 0 and bool((tensor == tensor[:1]).all())


def same(first: Any, second: Any) -> bool:
    """Whether a value is the same on both batches.

    Args:
        first: On the first.
        second: On the second.
    """
    return isinstance(first, Tensor) and first.shape == second.shape and bool((first == second).all())
