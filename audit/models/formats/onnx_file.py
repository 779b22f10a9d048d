"""ONNX files: checked, confined to their folder, and converted to torch.

Nothing of the file becomes code: its nodes select functions of a fixed table. Gradients are those of the torch
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config import TrustConfig
from audit.core.errors import ModelError, SetupError, UntrustedError, one_line
from audit.core.registry import model_format
from audit.models.formats.onnx_conversion import convert_graph
from audit.models.formats.onnx_data import companion_hashes
from audit.models.formats.onnx_graph import opset_of, sort
from audit.models.loaded import CheckpointContent

if TYPE_CHECKING:
    from onnx import ModelProto


@model_format(suffixes=(".onnx",), reference="https://onnx.ai/onnx/repo-docs/IR.html")
def onnx(path: Path, _trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The module that an .onnx file describes, converted to torch and compared with onnxruntime.

    Args:
        path: The file. Raises UntrustedError when its weights are outside its folder.

    Raises:
        SetupError: Without the extra `onnx`.
        ModelError: For damaged files and for operators that have no conversion.
    """
    proto, companions = _read(path)
    module, notes = convert_graph(proto, path.name)
    return CheckpointContent(module=module, notes=notes, companions=companions)


def _read(path: Path) -> tuple[ModelProto, tuple[str, ...]]:
    try:
        library = import_module("onnx")
    except ImportError as fault:
        raise SetupError(f"{path.name} needs onnx; install it with pip install 'audit[onnx]'.") from fault
    try:
        proto: ModelProto = library.load(str(path), load_external_data=False)
        _require_opset(opset_of(proto), library.defs.onnx_opset_version(), path.name)
        companions = companion_hashes(proto, path)
        if proto.ir_version > library.IR_VERSION:  # a newer container of the same operators
            proto.ir_version = library.IR_VERSION
        library.load_external_data_for_model(proto, str(path.parent))
        sort(proto.graph)
        library.checker.check_model(_with_output_shapes(proto))
    except (ModelError, UntrustedError):
        raise
    except Exception as fault:  # the parser and the checker raise types of their own
        raise ModelError(f"{path.name} is not a valid ONNX file ({one_line(fault)}); export it again.") from fault
    return proto, companions


def _require_opset(opset: int, newest: int, name: str) -> None:
    if opset > newest:
        raise ModelError(
            f"{name} is written in opset {opset}, and the installed onnx knows {newest}. Install a newer onnx, or "
            f"export the model with opset_version={newest}."
        )


def _with_output_shapes(proto: ModelProto) -> ModelProto:
    """The model as the checker wants it, the shapes of outputs filled in where they follow from the graph."""
    outputs = [output for output in proto.graph.output if output.type.HasField("tensor_type")]
    if all(output.type.tensor_type.HasField("shape") for output in outputs):
        return proto
    return import_module("onnx.shape_inference").infer_shapes(proto)  # type: ignore[no-any-return]
