"""Small ONNX files for the tests, and what onnxruntime says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.models.formats.onnx_file import onnx as read_onnx
from audit.models.loaded import CheckpointContent

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

IMAGE = ("n", 3, 8, 8)
KINDS = {np.float32: 1, np.uint8: 2, np.float16: 10, np.float64: 11}


def weights(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node, its inputs and outputs as words; "-" is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def write(
    path: Path,
    nodes: Sequence[Any],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    shape: Sequence[int | str] = IMAGE,
    kind: int = 1,
    outputs: Mapping[str, tuple[int, Sequence[int | str] | None]] | None = None,
    opset: int = 20,
    **options: Any,
) -> Path:
    """A file with the input `x`, and the output `y` of floats unless others are named."""
    wanted = {"y": (1, ("n", 5))} if outputs is None else outputs
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info(name, *spec) for name, spec in wanted.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *options.pop("imports", ())]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=options.pop("ir_version", 9), **options)
    onnx.save(proto, str(path))
    return path


def head(source: str = "f", features: int = 4) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Global average pooling and a dense layer of 5 classes, from `source` to `y`."""
    nodes = [
        node("GlobalAveragePool", source, "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat dense offset", "y", transB=1),
    ]
    return nodes, {"dense": weights(9, 5, features), "offset": weights(8, 5)}


def load(path: Path) -> CheckpointContent:
    return read_onnx(path, ())


def module_of(path: Path) -> Any:
    return load(path).module


def notes_of(path: Path) -> str:
    return " ".join(str(note) for note in load(path).notes)


def runtime_answer(path: Path, images: Tensor, output: str | None = None) -> Tensor:
    """What onnxruntime gives for images in the file's own layout and type."""
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answer = session.run([output] if output else None, {session.get_inputs()[0].name: images.numpy()})[0]
    return torch.from_numpy(np.asarray(answer))


def pictures(count: int = 3, *, size: int = 8, channels: int = 3) -> Tensor:
    """Images of 8-bit pixels in [0, 1], (N, C, H, W)."""
    draw = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, channels, size, size), generator=draw).float() / 255


def close(answer: Tensor, expected: Tensor, share: float = 1e-5) -> bool:
    return answer.shape == expected.shape and bool((answer - expected).abs().max() <= share * expected.abs().max())
