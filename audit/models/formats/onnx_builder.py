"""From an ONNX graph to its module: constants computed once, shapes settled, layers made.

Every node is run on two batches of different size while the net is built. What does not depend on the batch is a
constant; a `Reshape` whose target differs in one place takes that place as -1, which every batch size fits. The same
frees a graph that was exported for one batch size, see onnx_batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from audit.models.formats.onnx_batch import freed, grown, target_for_any
from audit.models.formats.onnx_layers import LAYER_MAKERS
from audit.models.formats.onnx_net import Buffer, OnnxNet, OnnxStep, Source, Value, store
from audit.models.formats.onnx_node import Node, attributes_of, tensor_of
from audit.models.formats.onnx_operators import OPERATORS
from audit.models.formats.onnx_values import Example, column, repeats, same, says_how

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


class Unsupported(Exception):
    """An operator, or a use of one, that is not converted; its text names it."""


@dataclass
class OnnxBuilder:
    """Builds the net of one graph.

    Attributes:
        opset: Of the file's operators.
        fixed_batch: The batch size that the graph was exported for, 0 for any.
        known: Whether the images' size is the file's own, so that shapes are constants.
    """

    opset: int
    fixed_batch: int
    known: bool
    _values: dict[str, Example] = field(default_factory=dict)
    _steps: list[OnnxStep] = field(default_factory=list)
    _layers: dict[str, nn.Module] = field(default_factory=dict)
    _buffers: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def build(self, graph: GraphProto, image: str, scores: Mapping[str, str], first: Tensor, second: Tensor) -> OnnxNet:
        """The net.

        Args:
            graph: The graph, its operators all known.
            image: The name of the input.
            scores: The names of the values that are wanted, by the names of their outputs.
            first: Images in the layout and type that the graph takes.
            second: More of them, or the same where no other batch size is asked for.

        Raises:
            Unsupported: A node asks for what its operator does not do here.
        """
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor_of(tensor))
        self._values[image] = Example(first, second)
        self._run(graph.node)
        if any(self._values[name].constant or self._values[name].of_shapes for name in scores.values()):
            raise Unsupported("its output does not depend on the images")
        return OnnxNet(self._steps, self._layers, self._buffers, image=image, scores=scores).eval()

    def _run(self, nodes: Iterable[NodeProto]) -> None:
        for proto in nodes:
            try:
                self._node(proto)
            except Unsupported:
                raise
            except Exception as fault:  # whatever torch makes of arguments that do not fit
                raise Unsupported(f"{proto.op_type}: {fault}") from fault

    def _constant(self, name: str, tensor: Tensor) -> None:
        self._values[name] = Example(tensor, tensor, constant=True)

    def _node(self, proto: NodeProto) -> None:
        if proto.op_type == "If":
            self._branch(proto)
            return
        if proto.op_type == "Concat":
            proto = self._with_batch(proto)
        inputs = [self._values[name] if name else None for name in proto.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        node = self._view(proto, inputs)
        given = [example for example in inputs if example is not None]
        constant = all(example.constant for example in given)
        of_shapes = node.op in ("Shape", "Size") or all(example.constant or example.of_shapes for example in given)
        if of_shapes:
            self._shape_value(proto, node, inputs, constant)
            return
        layer = self._layer(node, inputs)
        function: Callable[..., Any] = layer or partial(OPERATORS[node.op], node)
        arguments = inputs[:1] if layer is not None else inputs
        if node.op == "Reshape":
            self._reshape(proto, node, inputs)
            return
        firsts, seconds = function(*column(arguments, 0)), function(*column(arguments, 1))
        name = ""
        if layer is not None:
            name = f"{node.op.lower()}_{len(self._steps)}"
            self._layers[name] = layer
        self._keep(proto, firsts, seconds)
        self._pass_outer(proto, given)
        sources = [self._source(proto, node, i, example) for i, example in enumerate(arguments)]
        self._steps.append(OnnxStep(node, tuple(sources), tuple(proto.output), name))

    def _view(self, proto: NodeProto, inputs: Sequence[Example | None]) -> Node:
        ranks = tuple(-1 if e is None else e.first.dim() for e in inputs)
        types = tuple(None if e is None else e.first.dtype for e in inputs)
        head = inputs[0] if inputs else None
        shape = (0, *head.first.shape[1:]) if self.known and head is not None else None
        op, attributes = proto.op_type, attributes_of(proto)
        if op == "Gather" and self._in_one_row(inputs):
            op, attributes = "GatherInEach", {"width": len(inputs[0].first)}  # type: ignore[union-attr]
        return Node(op, attributes, self.opset, ranks, types, len(proto.output), shape)

    def _in_one_row(self, inputs: Sequence[Example | None]) -> bool:
        """Whether places are gathered from an image laid out in one row, as exporters write `as_strided`."""
        values, places = inputs[0], inputs[1]
        if self.fixed_batch != 1 or values is None or places is None or values.first.dim() != 1:
            return False
        row = values.first.shape != values.second.shape and values.outer == 1
        return row and places.constant and places.first.dim() > 0 and len(places.first) == 1

    def _layer(self, node: Node, inputs: Sequence[Example | None]) -> nn.Module | None:
        maker = LAYER_MAKERS.get(node.op)
        if maker is None or inputs[0] is None or any(e is not None and not e.constant for e in inputs[1:]):
            return None
        layer = maker(node, *column(inputs[1:], 0))
        return None if layer is None else layer.eval()

    def _shape_value(self, proto: NodeProto, node: Node, inputs: Sequence[Example | None], constant: bool) -> None:
        """What depends on no pixel: computed now where it is the same on both batches, else a step of its own."""
        operator = OPERATORS[node.op]
        firsts = operator(node, *column(inputs, 0))
        seconds = firsts if constant else operator(node, *column(inputs, 1))
        self._keep(proto, firsts, seconds)
        for name in proto.output:
            if not name or name not in self._values:
                continue
            example = self._values[name]
            example.of_shapes = True
            example.constant = constant or (self.known and same(example.first, example.second))
        sources = [self._source(proto, node, i, example, shape=True) for i, example in enumerate(inputs)]
        if not constant:
            self._steps.append(OnnxStep(node, tuple(sources), tuple(proto.output)))

    def _keep(self, proto: NodeProto, firsts: Any, seconds: Any) -> None:
        one: dict[str, Any] = {}
        other: dict[str, Any] = {}
        store(one, proto.output, firsts)
        store(other, proto.output, seconds)
        self._values.update({name: Example(one[name], other[name]) for name in one})

    def _pass_outer(self, proto: NodeProto, given: Sequence[Example]) -> None:
        """An axis that is a batch within rows, as (tokens x images), stays one until it is reshaped."""
        merged = next((example for example in given if example.outer > 1), None)
        if merged is None:
            return
        axis = grown(merged.first.shape, merged.second.shape)
        for name in proto.output:
            example = self._values.get(name)
            if example is None or axis is None:
                continue
            now = grown(example.first.shape, example.second.shape)
            if now is not None and example.first.shape[now] == merged.first.shape[axis]:
                example.outer = merged.outer

    def _source(
        self, proto: NodeProto, node: Node, index: int, example: Example | None, *, shape: bool = False
    ) -> Source:
        if example is None:
            return None
        how = says_how(node.op, index)
        if not example.constant:
            return Value(proto.input[index], moved=example.of_shapes and not shape and not how)
        small = not example.first.is_floating_point() and (shape or example.first.dim() == 0)
        return example.first.detach() if how or small else self._buffer(example.first)

    def _buffer(self, tensor: Tensor) -> Buffer:
        name = f"constant_{len(self._buffers)}"
        self._buffers[name] = tensor.detach().clone()
        return Buffer(name)

    def _reshape(self, proto: NodeProto, node: Node, inputs: Sequence[Example | None]) -> None:
        values, operator = inputs[0], OPERATORS["Reshape"]
        assert values is not None
        first = operator(node, *column(inputs, 0))
        try:
            second = operator(node, *column(inputs, 1))
        except RuntimeError:
            if not self.fixed_batch:
                raise
            second = None
        outer = 1
        if self.fixed_batch and values.first.shape != values.second.shape:
            sizes = (values.first.shape, values.second.shape, first.shape)
            sizes_for_more, outer = freed(*sizes, self.fixed_batch, values.outer)
            second = values.second.reshape(sizes_for_more)
        target = target_for_any(first.shape, second.shape) if self.known else None
        self._values[proto.output[0]] = Example(first, second, outer=outer)
        sources = tuple(self._source(proto, node, i, example) for i, example in enumerate(inputs))
        if target is not None:
            sources = (sources[0], torch.tensor(target, dtype=torch.int64, device="cpu"))
        self._steps.append(OnnxStep(node, sources, tuple(proto.output)))

    def _with_batch(self, proto: NodeProto) -> NodeProto:
        """Repeat the constants that stand beside a batch, such as a transformer's class token, as often as it needs."""
        examples = {name: self._values[name] for name in proto.input if name}
        batch = next((n for n, e in examples.items() if not e.constant and len(e.first) == self.fixed_batch), "")
        if not self.fixed_batch or not batch or attributes_of(proto).get("axis", 1) == 0:
            return proto
        widened: NodeProto = type(proto).FromString(proto.SerializeToString())
        for i, name in enumerate(proto.input):
            example = examples[name]
            if example.constant and example.first.dim() == examples[batch].first.dim() and repeats(example.first):
                row = example.first[:1]
                sizes = [[len(b), *row.shape[1:]] for b in (examples[batch].first, examples[batch].second)]
                widened.input[i] = f"{name} for each of {batch}"
                self._values[widened.input[i]] = Example(row.expand(sizes[0]), row.expand(sizes[1]))
                node = Node("WithBatch", {}, self.opset, (row.dim(),), (row.dtype,))
                buffer = self._buffer(row)
                self._steps.append(OnnxStep(node, (buffer, Value(batch)), (widened.input[i],)))
        return widened

    def _branch(self, proto: NodeProto) -> None:
        condition = self._values[proto.input[0]]
        if not condition.constant:
            raise Unsupported("If depends on the images")
        name = "then_branch" if bool(condition.first) else "else_branch"
        graph = next(attribute.g for attribute in proto.attribute if attribute.name == name)
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor_of(tensor))
        self._run(graph.node)
        for outer, inner in zip(proto.output, graph.output, strict=True):
            self._values[outer] = self._values[inner.name]
            if not self._values[inner.name].constant:
                node = Node("Identity", {}, self.opset, (-1,), (None,))
                self._steps.append(OnnxStep(node, (Value(inner.name),), (outer,)))
