"""A net as a graph of affine maps and elementwise activations, which bounds can be propagated through."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audit.bounds.activations import Activation
from audit.models.pass_counter import PassCounter

UNIT = 2.0**-24
"""Unit roundoff of float32: what one rounded operation may add, relative to its result."""
SINGLE_STEPS = 32
"""Rounded operations on a coefficient or an end of a box between two sums, at most, see `single_precision`."""
SINGLE_ROOM = 1.25
"""Times what float32 may round: covers what that is rounded by itself, below a tenth."""


class Box(NamedTuple):
    """All values between two ends.

    Attributes:
        low: (N, ...).
        high: (N, ...).
    """

    low: Tensor
    high: Tensor


class Rounding(NamedTuple):
    """How far rounding may move a value, (N, *shape) each.

    Attributes:
        slack: In the evaluation of the net, and what a backward pass through the value rounds itself.
        box: In the evaluation of the net, and what its box was rounded by.
    """

    slack: Tensor
    box: Tensor


@dataclass(frozen=True)
class Affine:
    """A map that is affine in its inputs.

    Attributes:
        linear: Its linear part: tensors (R, ...) to (R, *shape), for any R.
        transpose: The transposed linear part: coefficients (R, *shape) of the output to those of each input; None for
            an input that only its box is taken from.
        spread: `linear` with the absolute value of every coefficient; None where no coefficient is negative.
        offset: Gives the constant part, (1, *shape) or broadcast to it; None for 0. It is a function, as the maps are,
            so that all follow the weights of a net in training.
        offset_size: Gives the sum of the absolute values of the terms of the offset; None for |offset|.
        terms: Rounded operations behind one output when a framework evaluates it in float32; 0 where it is exact.
        interval: The box around the outputs from those around the inputs where it is tighter than through `linear`.
        of_first: Whether that box follows from the first input alone.
        fan_out: Outputs that one number of an input goes into, at most: the terms of a coefficient of `transpose`. Or
            what finds out.
        pooling: The windows of a maximum that ends here, a `Pooling`, whose lines a backward pass takes at once.
    """

    linear: Callable[..., Tensor]
    transpose: Callable[[Tensor], Sequence[Tensor | None]]
    spread: Callable[..., Tensor] | None = None
    offset: Callable[[], Tensor] | None = None
    offset_size: Callable[[], Tensor] | None = None
    terms: int = 0
    interval: Callable[..., Box] | None = None
    of_first: bool = False
    fan_out: int | Callable[[], int] = 1
    pooling: Any = None

    def apply(self, *inputs: Tensor) -> Tensor:
        """The outputs.

        Args:
            inputs: One tensor (R, ...) an input.
        """
        outputs = self.linear(*inputs)
        return outputs if self.offset is None else outputs + self.offset()

    def box(self, *inputs: Box) -> Box:
        """The smallest box around the outputs that follows from boxes around the inputs, without rounding.

        Centre and radius go through on their own (arXiv:1810.12715); the ends where no coefficient is negative.

        Args:
            inputs: One box an input; the first alone where the others do not matter.
        """
        if self.interval is not None:
            return self.interval(*inputs)
        if self.spread is None:
            return Box(self.apply(*(box.low for box in inputs)), self.apply(*(box.high for box in inputs)))
        centre = self.apply(*((box.low + box.high) / 2 for box in inputs))
        radius = self.spread(*((box.high - box.low) / 2 for box in inputs))
        return Box(centre - radius, centre + radius)

    def rounding(self, *inputs: Box) -> Rounding | None:
        """How far the outputs may be from the exact value, (N, *shape); None where they are exact.

        A sum of n products evaluated in float32 in whatever order, with or without fused operations, is within
        n u / (1 - n u) times the sum of the absolute products of its exact value (Higham 2002, "Accuracy and Stability
        of Numerical Algorithms", section 3.1). Where bounds are propagated in float64 the factor is taken twice, which
        leaves room for what float64 itself rounds. Where they are propagated in float32, see
        `audit.bounds.single_precision` for what is added.

        Args:
            inputs: Boxes that hold the inputs; their precision is that of the propagation.
        """
        fan_out = 0
        if inputs[0].low.dtype == torch.float32:
            fan_out = self.fan_out() if callable(self.fan_out) else self.fan_out
        if self.terms == 0 and not (fan_out > 1 or (fan_out and self.spread is not None)):
            return None
        size = (self.spread or self.linear)(*(torch.maximum(box.low.abs(), box.high.abs()) for box in inputs))
        constant = None
        if self.offset is not None:
            constant = self.offset().abs() if self.offset_size is None else self.offset_size()
            size = size + constant
        if not fan_out:
            slack = size * (2 * _relative(self.terms))
            return Rounding(slack, slack)
        slack = size * (SINGLE_ROOM * _relative(self.terms + fan_out + SINGLE_STEPS))
        if constant is not None:  # The places of a channel, or the channels of a place, are added in float32.
            slack = slack + constant * (2 * UNIT * (size.shape[1] + math.prod(size.shape[2:])))
        return Rounding(slack, size * (SINGLE_ROOM * _relative(3 * self.terms + SINGLE_STEPS)))


def _relative(steps: int) -> float:
    """The largest relative error of so many roundings; infinite where it is not small."""
    return steps * UNIT / (1 - steps * UNIT) if steps * UNIT < 0.1 else math.inf


@dataclass(frozen=True)
class GraphNode:
    """One value of the net.

    Attributes:
        operation: What computes it; None for the image.
        inputs: Positions of the values that it is computed from.
        shape: Its shape, without the batch.
        layer: Name of the layer of the net that it belongs to.
    """

    operation: Affine | Activation | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    layer: str


@dataclass
class BoundGraph:
    """The values of a net in the order of computation; the first is the image, `output` the logits.

    Attributes:
        nodes: The values.
        dtype: Of the weights inside.
        device: Where they are.
        output: Position of the logits.
        cones: By position, what `audit.bounds.cones` found out, once it was asked.
        meter: Counts an interval pass as two forwards an image, a backward pass as one backward a function, and its
            derivative as one forward more.
    """

    nodes: list[GraphNode]
    dtype: torch.dtype
    device: torch.device
    output: int = 0
    cones: dict[int, Any] = field(default_factory=dict)
    meter: PassCounter = field(default_factory=PassCounter)

    @cached_property
    def activations(self) -> list[int]:
        """Positions of the activations."""
        return [i for i, node in enumerate(self.nodes) if isinstance(node.operation, Activation)]

    @cached_property
    def consumers(self) -> list[int]:
        """By position, how many values are computed from it."""
        counts = [0] * len(self.nodes)
        for node in self.nodes:
            for source in node.inputs:
                counts[source] += 1
        return counts

    @cached_property
    def unbounded(self) -> list[int]:
        """Positions of the values that an activation is applied to, in order, each once."""
        return sorted({self.nodes[i].inputs[0] for i in self.activations})

    @cached_property
    def inside(self) -> set[int]:
        """Positions of those that belong to the windows of a max-pooling."""
        poolings = [node.operation.pooling for node in self.nodes if isinstance(node.operation, Affine)]
        return {relu - 1 for pooling in poolings if pooling for relu in pooling.relus}

    @cached_property
    def boxed(self) -> set[int]:
        """Positions of the values that the boxes of the logits follow from."""
        reached, waiting = set(), [self.output]
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                node = self.nodes[current]
                first = isinstance(node.operation, Affine) and node.operation.of_first
                waiting.extend(node.inputs[:1] if first else node.inputs)
        return reached

    def evaluate(self, images: Tensor) -> list[Tensor]:
        """Every value of the net on images.

        Args:
            images: (N, C, H, W).

        Returns:
            One tensor (N, *shape) a node.
        """
        values: list[Tensor] = []
        for node in self.nodes:
            inputs = [values[i] for i in node.inputs]
            values.append(images.to(self.dtype) if node.operation is None else node.operation.apply(*inputs))
        return values

    def ancestors(self, position: int) -> set[int]:
        """Positions that a value is computed from, itself among them.

        Args:
            position: Of the value.
        """
        reached, waiting = set(), [position]
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                waiting.extend(self.nodes[current].inputs)
        return reached
