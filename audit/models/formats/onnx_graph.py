"""An ONNX graph made harmless before it is converted: files beside it alone, names of ours, an opset that is known."""

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
    """SHA-256 of each file of weights beside the model. Raises UntrustedError for one that is not beside it."""
    folder = path.resolve().parent
    found = {}
    for tensor in _tensors(proto.graph):
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if place is None:
            continue
        target = (folder / place).resolve()
        if not target.is_relative_to(folder) or (folder / place).is_symlink():
            raise UntrustedError(
                f"{path.name} keeps weights in {place!r}, outside its own folder; such a file could read anything. "
                "Export it with its data beside it."
            )
        found[place] = sha256_of(target)
    return tuple(found[place] for place in sorted(found))


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def require_plain(proto: ModelProto, name: str) -> None:
    """Raises ModelError for control flow, functions and sparse weights."""
    inner = any(a.g.ByteSize() or a.graphs for node in proto.graph.node for a in node.attribute)
    if inner or proto.functions or proto.graph.sparse_initializer:
        raise ModelError(
            f"{name} has control flow, functions of its own or sparse weights, which are not converted. Export the "
            "plain inference graph."
        )


def rename(graph: GraphProto) -> None:
    """Names of our own for every tensor and node, so that none of the file's reaches the converter's code."""
    names: dict[str, str] = {"": ""}

    def own(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = own(value.name)
    for i, node in enumerate(graph.node):
        node.name = f"n{i}"
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
    graph.name = "graph"


def simplify(graph: GraphProto) -> None:
    """Without what the converter stumbles on and no answer depends on: identities, and a `Reshape` that would keep
    zeros where its shape has none."""
    sizes = {tensor.name: import_module("onnx.numpy_helper").to_array(tensor) for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Reshape" and node.input[1] in sizes and (sizes[node.input[1]] != 0).all():
            for attribute in [a for a in node.attribute if a.name == "allowzero"]:
                node.attribute.remove(attribute)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def at_known_opset(proto: ModelProto) -> ModelProto:
    """`proto` in an opset the converter knows: rewritten where ONNX can, else only relabelled, which the checker and
    the comparison with the reference must then agree to."""
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
