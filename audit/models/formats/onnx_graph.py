"""What an ONNX graph takes and gives, and whether every operator in it is known here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from audit.core.errors import ModelError
from audit.models.formats.onnx_data import nodes_in, subgraphs
from audit.models.formats.onnx_operators import OPERATORS

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_ONNX = ("", "ai.onnx")
_FLOATS = (1, 10, 11, 16)
"""TensorProto's codes of float, float16, double and bfloat16."""
_PASSING = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "LabelEncoder", "ZipMap")
_LOOP = "Loops are not converted; export with torch.onnx.export(..., dynamo=True), which unrolls them"
_RANDOM = "They draw random numbers; call net.eval() before the export"
_REMEDIES = {
    **dict.fromkeys(("Loop", "Scan"), _LOOP),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"), _RANDOM),
}
"""What to do about operators that have a known reason to be there."""


@dataclass(frozen=True)
class Scores:
    """The outputs of a graph that are scores of classes.

    Attributes:
        values: The names of the graph's values, by the names of the outputs.
        decided: The operator, such as ArgMax, that the file ends in and that was left out; "" for none.
        left: The names of outputs that hold no scores.
    """

    values: dict[str, str]
    decided: str = ""
    left: tuple[str, ...] = ()


def opset_of(proto: ModelProto) -> int:
    """The version of ONNX's operators that the file was written for.

    Args:
        proto: The model.
    """
    return max((entry.version for entry in proto.opset_import if entry.domain in _ONNX), default=1)


def inputs_of(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs of a graph; weights that are listed as inputs are none.

    Args:
        graph: The graph.
    """
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def image_input(proto: ModelProto, name: str) -> ValueInfoProto:
    """The input that takes the images.

    Args:
        proto: The model.
        name: The file's name, for errors.

    Raises:
        ModelError: There is none, or more than one.
    """
    inputs = inputs_of(proto.graph)
    if len(inputs) != 1:
        listed = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(
            f"{name} takes {len(inputs)} inputs ({listed}), where one tensor of images was expected. Export a module "
            "whose forward takes the images alone and holds the other inputs as constants."
        )
    return inputs[0]


def scores_among(graph: GraphProto, name: str) -> Scores:
    """The scores among the outputs: those of floats; behind ArgMax or TopK, what they were decided from.

    Args:
        graph: The graph.
        name: The file's name, for errors.

    Raises:
        ModelError: No output holds scores.
    """
    makers = {output: node for node in graph.node for output in node.output}
    plain: dict[str, str] = {}
    decided: dict[str, tuple[str, str]] = {}
    for output in graph.output:
        source, by = _before_decision(output.name, makers)
        if by:
            decided[output.name] = (source, by)
        elif output.type.HasField("sequence_type") or output.type.tensor_type.elem_type in _FLOATS:
            plain[output.name] = source if output.type.HasField("sequence_type") else output.name
    wide = {o.name for o in graph.output if len(o.type.tensor_type.shape.dim) in (0, 2)}
    best = {label: value for label, value in plain.items() if label in wide} or plain
    if best:
        return Scores(best, left=tuple(o.name for o in graph.output if o.name not in best))
    if decided:
        label, (source, by) = next(iter(decided.items()))
        return Scores({label: source}, decided=by)
    listed = ", ".join(repr(o.name) for o in graph.output) or "none"
    raise ModelError(
        f"{name} gives no scores: no output ({listed}) is a tensor of floats. Export the net with its logits or its "
        "probabilities as an output."
    )


def prune(graph: GraphProto, scores: Scores) -> None:
    """Remove the nodes that the scores do not depend on.

    Args:
        graph: The graph, changed in place.
        scores: What is wanted.
    """
    wanted = set(scores.values.values())
    needed = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            needed.append(node)
            wanted |= set(node.input) | set(_captured(node))
    del graph.node[:]
    graph.node.extend(needed[::-1])


def sort(graph: GraphProto) -> None:
    """Put nodes behind those that they read, as ONNX asks; some tools append theirs, and runtimes sort by themselves.

    Args:
        graph: The graph, changed in place; one with a circle stays as it is.
    """
    made = {output for node in graph.node for output in node.output}
    waiting, ready, order = list(graph.node), {value.name for value in graph.input}, []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or name not in made for name in (*node.input, *_captured(node))):
                order.append(node)
                ready |= set(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            return
        waiting = later
    del graph.node[:]
    graph.node.extend(order)


def inlined(proto: ModelProto) -> ModelProto:
    """The model without functions: those of the file, and those of ONNX that are unknown here and have a definition.

    Args:
        proto: The model.
    """
    inliner = import_module("onnx.inliner")
    if proto.functions:
        proto = inliner.inline_local_functions(proto, True)
    names = {(node.domain, node.op_type) for node in nodes_in(proto.graph.node) if not _known(node)}
    if names:
        try:
            return inliner.inline_selected_functions(_typed(proto), sorted(names), inline_schema_functions=True)  # type: ignore[no-any-return]
        except Exception:  # the C++ inliner raises types of its own; what stays unknown is refused by name
            return proto
    return proto


def _typed(proto: ModelProto) -> ModelProto:
    """The model with the type of every value, which some definitions depend on."""
    typed: ModelProto = import_module("onnx.shape_inference").infer_shapes(proto)
    known = {value.name for value in (*typed.graph.value_info, *typed.graph.input)}
    for tensor in typed.graph.initializer:
        if tensor.name not in known:
            kind = import_module("onnx.helper").make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            typed.graph.value_info.append(kind)
    return typed


def require_known(graph: GraphProto, name: str) -> None:
    """Refuse operators that are not known here.

    Args:
        graph: The graph, pruned and inlined.
        name: The file's name, for errors.

    Raises:
        ModelError: Naming every such operator.
    """
    if graph.sparse_initializer:
        raise ModelError(f"{name} has sparse weights, which are not converted; export them as dense tensors.")
    unknown = {node.op_type: node.domain for node in nodes_in(graph.node) if not _known(node)}
    if not unknown:
        return
    listed = ", ".join(f"{domain}.{op}" if domain not in _ONNX else op for op, domain in sorted(unknown.items()))
    remedy = next((_REMEDIES[op] for op in sorted(unknown) if op in _REMEDIES), "Export the net without them")
    if any(domain.startswith("com.microsoft") for domain in unknown.values()):
        remedy = "onnxruntime writes some of them when it optimises a model; give the file from before that"
    raise ModelError(
        f"{name} uses {listed}, which cannot be converted to torch. {remedy}, or give the net's weights with "
        "--architecture."
    )


def _known(node: NodeProto) -> bool:
    return node.domain in _ONNX and (node.op_type in OPERATORS or node.op_type == "If")


def _captured(node: NodeProto) -> Iterator[str]:
    """What a node's subgraphs read."""
    for graph in subgraphs([node]):
        yield from (output.name for output in graph.output)
        for inner in graph.node:
            yield from inner.input


def _before_decision(value: str, makers: dict[str, NodeProto]) -> tuple[str, str]:
    """The value that an output is made of, and the operator that decided between classes, "" for none."""
    source = value
    while source in makers:
        node = makers[source]
        if node.op_type in ("ArgMax", "TopK", "Hardmax"):
            return node.input[0], node.op_type
        if node.op_type == "ArrayFeatureExtractor":
            source = node.input[1]
        elif node.op_type in _PASSING:
            source = node.input[0]
        else:
            break
    return (source if makers.get(value) is not None and makers[value].op_type == "ZipMap" else value), ""
