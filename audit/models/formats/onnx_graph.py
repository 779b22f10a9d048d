"""An ONNX graph made harmless before it is converted: confined, renamed, simplified, in a known opset."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from audit.core.errors import ModelError, UntrustedError
from audit.models.files import sha256_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

_OPSET = 18
"""The newest that the converter knows well."""


def companion_hashes(proto: ModelProto, path: Path) -> tuple[str, ...]:
    """SHA-256 of each file of weights beside the model.

    Args:
        proto: The model, its outside data not loaded.
        path: The model's file.

    Returns:
        The hashes in the order of the file names.

    Raises:
        UntrustedError: For a file that is not inside the model's folder, or a link.
    """
    folder = path.resolve().parent
    hashes = {}
    for tensor in _tensors(proto.graph):
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is None:
            continue
        target = (folder / location).resolve()
        if not target.is_relative_to(folder) or (folder / location).is_symlink():
            raise UntrustedError(
                f"{path.name} keeps weights in {location!r}, outside its own folder; such a file could read anything. "
                "Export it with its data beside it."
            )
        hashes[location] = sha256_of(target)
    return tuple(hashes[location] for location in sorted(hashes))


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def require_plain(proto: ModelProto, name: str) -> None:
    """Refuse what is not converted.

    Args:
        proto: The model.
        name: Its file name, for errors.

    Raises:
        ModelError: For control flow, functions and sparse weights.
    """
    inner = any(a.g.ByteSize() or a.graphs for node in proto.graph.node for a in node.attribute)
    if inner or proto.functions or proto.graph.sparse_initializer:
        raise ModelError(
            f"{name} has control flow, functions of its own or sparse weights, which are not converted. Export the "
            "plain inference graph."
        )


def rename(graph: GraphProto) -> None:
    """Give every tensor and node a new name, so that none of the file's reaches the converter's code.

    Args:
        graph: The graph, changed in place.
    """
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed(value.name)
    for i, node in enumerate(graph.node):
        node.name = f"n{i}"
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    graph.name = "graph"


def simplify(graph: GraphProto) -> None:
    """Remove what the converter cannot read and no answer depends on.

    That is identities, and the `allowzero` of a `Reshape` whose shape has no zeros.

    Args:
        graph: The graph, changed in place.
    """
    sizes = {tensor.name: import_module("onnx.numpy_helper").to_array(tensor) for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Reshape" and node.input[1] in sizes and (sizes[node.input[1]] != 0).all():
            for attribute in [a for a in node.attribute if a.name == "allowzero"]:
                node.attribute.remove(attribute)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def at_known_opset(proto: ModelProto) -> ModelProto:
    """The model in an opset that the converter knows.

    It is rewritten where ONNX can, else only relabelled, which the checker and the comparison with the reference must
    then agree to.

    Args:
        proto: The model.
    """
    newest = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=_OPSET)
    if newest <= _OPSET:
        return proto
    onnx = import_module("onnx")
    try:
        older: ModelProto = import_module("onnx.version_converter").convert_version(proto, _OPSET)
    except Exception:  # the C++ converter raises a type of its own where it has no rule
        older = type(proto).FromString(proto.SerializeToString())
        for entry in older.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = _OPSET
    onnx.checker.check_model(older, full_check=True)
    return older
