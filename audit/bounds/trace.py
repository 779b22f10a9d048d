"""A net's forward, recorded operation by operation, as a graph of affine maps and activations.

The forward runs once, on a few images, and every operation that touches them is caught below autograd. So modules,
functional calls, in-place calls and converted nets are all seen alike, and what does not depend on the images is a
constant. What has no rule is refused with the name of its layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from audit.bounds.activations import Activation
from audit.bounds.graph import Affine, BoundGraph, GraphNode
from audit.core.errors import NotApplicable, one_line
from audit.core.note import note
from audit.models.forward_watch import OperationWatch, RunningLayers, running_layers
from audit.models.module_copy import copy_module

TRACED = 3
"""Images that the forward is recorded on: a leading size that no layer is likely to have."""
_SILENT = {
    *("empty", "sym_size", "size", "stride", "dim", "is_same_size"),
    *(f"{kind}_like" for kind in ("empty", "zeros", "ones", "full")),
    *(f"new_{kind}" for kind in ("empty", "zeros", "ones", "full")),
}
"""Operations whose answer does not depend on the values that they are given."""
_COPIES = {"_to_copy", "clone", "detach", "alias"}
"""Operations that may follow a softmax at the end."""


class Recorder(OperationWatch):  # type: ignore[no-untyped-call]
    """Builds the graph while a forward runs.

    Attributes:
        graph: The graph so far.
        layers: Names of the layers whose forwards are running, the innermost last.
    """

    def __init__(self, images: Tensor, rules: Mapping[str, Callable[..., Any]]) -> None:
        """A graph of the images alone.

        Args:
            images: (TRACED, ...).
            rules: By the name of an operation, what adds it: `rule(recorder, output, *args, **kwargs)` gives the
                position of its value, or a list of positions where it has several.
        """
        super().__init__()
        self.graph = BoundGraph(
            [GraphNode(None, (), tuple(images.shape[1:]), "the image")], images.dtype, images.device
        )
        self.running: RunningLayers = []
        self._rules = rules
        self._positions: dict[int, int] = {id(images): 0}
        self._alive: list[Tensor] = [images]
        self._stale: set[int] = set()
        self._ends: dict[int, int] = {}
        self._transposed: dict[int, Tensor] = {}

    @property
    def layer(self) -> str:
        """The layer whose forward is running."""
        name, layer = self.running[-1] if self.running else ("net", None)
        return "the net itself" if name == "net" else f"layer '{name.removeprefix('net.')}' ({type(layer).__name__})"

    def position(self, value: Any) -> int | None:
        """Where a value stands in the graph; None for a constant.

        Args:
            value: An argument of an operation.

        Raises:
            NotApplicable: An in-place operation on a tensor that shares its memory has changed it.
        """
        if not isinstance(value, Tensor):
            return None
        if id(value) in self._stale:
            raise self.refused("an in-place change of shared memory")
        if id(value) in self._ends:
            raise self.refused("a softmax before its end")
        return self._positions.get(id(value))

    def current(self, weight: Tensor) -> Callable[[], Tensor]:
        """Gives a weight as it is when asked: a parameter itself, so that gradients reach it, or its transposition.

        Args:
            weight: A constant of an operation.
        """
        source = self._transposed.get(id(weight))
        return (lambda: weight) if source is None else source.t

    def add(self, operation: Affine | Activation, inputs: Sequence[int], shape: Sequence[int]) -> int:
        """A new value; its position.

        Args:
            operation: What computes it.
            inputs: Positions of what it is computed from.
            shape: Its shape without the batch.
        """
        self.graph.nodes.append(GraphNode(operation, tuple(inputs), tuple(shape), self.layer))
        return len(self.graph.nodes) - 1

    def end(self, value: Tensor, position: int) -> None:
        """A softmax at the end of the net is left out: it keeps the order of its inputs, which stand for it.

        Args:
            value: What it gave, which no operation may use any more.
            position: Of its input.
        """
        self._ends[id(value)] = position
        self._alive.append(value)

    def output(self, value: Any) -> int:
        """Where the net's answer stands in the graph.

        Args:
            value: What its forward gave.

        Raises:
            NotApplicable: It is not linked to the image by recorded operations.
        """
        position = self._ends[id(value)] if id(value) in self._ends else self.position(value)
        if position is None:
            raise self.refused("values that no operation links to the image")
        return position

    def refused(self, what: str) -> NotApplicable:
        """The error for what has no rule.

        Args:
            what: The operation, in words.
        """
        return NotApplicable(
            note(
                "bounds_unknown",
                "Bounds know convolutions, dense layers, pooling, batch norm, sums and monotone activations; "
                "{layer} uses {what}.",
                layer=self.layer,
                what=what,
            )
        )

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record it where it touches the images."""
        kwargs, name = dict(kwargs or {}), function.overloadpacket.__name__
        ended = self._ends.get(id(args[0])) if args else None
        if ended is not None and name in _COPIES:
            output = function(*args, **kwargs)
            self.end(output, ended)
            return output
        if name == "_to_copy" and self.position(args[0]) is not None and kwargs.get("dtype") is not None:
            if kwargs["dtype"] not in (torch.float32, torch.float64):
                raise self.refused(f"numbers of type {kwargs['dtype']}")
            kwargs["dtype"] = self.graph.dtype
        output = function(*args, **kwargs)
        touched = [leaf for leaf in tree_leaves((args, kwargs)) if self.position(leaf) is not None]
        if not touched and name == "t":
            self._transposed[id(output)] = args[0]
            self._alive.append(output)
        if not touched or name in _SILENT:
            return output
        in_place = name.endswith("_") and output is args[0]
        rule = self._rules.get(name.removesuffix("_") if in_place else name)
        if rule is None:
            raise self.refused(f"'{name}'")
        outputs = output if isinstance(output, tuple | list) else [output]
        first = outputs[0]
        if not isinstance(first, Tensor) or first.ndim == 0 or first.shape[0] != TRACED:
            raise self.refused(f"'{name}' across images")
        positions = rule(self, output, *args, **kwargs)
        if positions is None:
            return output
        if in_place:
            self._invalidate(output)
        for value, position in zip(outputs, positions if isinstance(positions, list) else [positions], strict=False):
            self._positions[id(value)] = position
            self._stale.discard(id(value))
            self._alive.append(value)
        return output

    def _invalidate(self, changed: Tensor) -> None:
        """Other tensors in the same memory no longer hold what they were recorded with."""
        memory = changed.untyped_storage().data_ptr()
        self._stale.update(id(t) for t in self._alive if t is not changed and t.untyped_storage().data_ptr() == memory)


def trace(
    net: nn.Module, input_shape: Sequence[int], rules: Mapping[str, Callable[..., Any]], dtype: torch.dtype
) -> BoundGraph:
    """The graph of a net.

    Args:
        net: The net, which stays as it is; its outputs are (N, K).
        input_shape: (C, H, W), or any shape without the batch.
        rules: See `Recorder`.
        dtype: Of the graph's weights.

    Raises:
        NotApplicable: An operation has no rule, or the forward depends on values.
    """
    return trace_live(copy_module(net).to(dtype).requires_grad_(False), input_shape, rules, dtype)


def trace_live(
    net: nn.Module, input_shape: Sequence[int], rules: Mapping[str, Callable[..., Any]], dtype: torch.dtype
) -> BoundGraph:
    """The graph of a net in eval mode that shares its weights, and follows them as they are trained.

    Args:
        net: The net.
        input_shape: Of an image, without the batch.
        rules: See `Recorder`.
        dtype: Of the net's weights.

    Raises:
        NotApplicable: An operation has no rule, or the forward depends on values.
    """
    device = next((t.device for t in [*net.parameters(), *net.buffers()]), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(TRACED, *input_shape, generator=generator, dtype=dtype).to(device)
    recorder = Recorder(images, rules)
    modes = [(layer, layer.training) for layer in net.modules()]
    try:
        with torch.no_grad(), running_layers(net.eval()) as recorder.running, recorder:
            logits = net(images)
    except (RuntimeError, TypeError, ValueError, AttributeError) as fault:
        raise recorder.refused(f"what cannot be recorded ({one_line(fault)})") from fault
    finally:
        for layer, training in modes:
            layer.training = training
    recorder.graph.output = recorder.output(logits)
    return recorder.graph
