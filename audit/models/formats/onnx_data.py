"""The files beside an ONNX file that hold its weights: confined to its folder, part of its identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from audit.core.errors import ModelError, UntrustedError
from audit.models.files import sha256_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def companion_hashes(proto: ModelProto, path: Path) -> tuple[str, ...]:
    """SHA-256 of each file of weights beside the model.

    Args:
        proto: The model, its outside data not loaded.
        path: The model's file.

    Returns:
        The hashes in the order of the file names.

    Raises:
        UntrustedError: For a file that is not inside the model's folder, or a link.
        ModelError: For a file that is missing.
    """
    folder = path.resolve().parent
    hashes = {}
    for tensor in _tensors_of(proto):
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is None:
            continue
        target = (folder / location).resolve()
        if not target.is_relative_to(folder) or (folder / location).is_symlink():
            raise UntrustedError(
                f"{path.name} keeps weights in {location!r}, outside its own folder; such a file could read anything. "
                "Export it with its data beside it."
            )
        if not target.is_file():
            raise ModelError(
                f"{path.name} keeps its weights in the file {location!r}, which is not beside it. Put that file, under "
                "that name, into the same folder; torch.onnx.export(..., external_data=False) writes one file."
            )
        if location not in hashes:
            hashes[location] = sha256_of(target)
    return tuple(hashes[location] for location in sorted(hashes))


def subgraphs(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    """The graphs inside nodes, as the branches of an If, at any depth.

    Args:
        nodes: The nodes of a graph or of a function.
    """
    for node in nodes:
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield graph
                yield from subgraphs(graph.node)


def nodes_in(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and those of the graphs inside them.

    Args:
        nodes: The nodes of a graph or of a function.
    """
    for node in nodes:
        yield node
        for graph in subgraphs([node]):
            yield from graph.node


def _tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    for graph in (proto.graph, *(graph for body in bodies for graph in subgraphs(body))):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in (node for body in bodies for node in nodes_in(body)):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
