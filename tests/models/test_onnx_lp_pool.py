"""LpPool over the edge: the norm of what is in the window, as onnxruntime has it and ONNX's reference has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audit.models.load import read_checkpoint

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_a_window_over_the_edge_is_the_norm_of_the_numbers_in_it(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("LpPool", ["x"], ["p"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, p=2),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    inputs, outputs = (helper.make_tensor_value_info(n, kind, s) for n, s in (("x", [1, 1, 6, 6]), ("y", [1, 9])))
    graph = helper.make_graph(nodes, "pool", [inputs], [outputs])
    path = tmp_path / "pool.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    module = read_checkpoint(path, ()).module
    assert module is not None
    numbers = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6)
    starts = [slice(first, first + 3) for first in (0, 2, 4)]
    windows = [numbers[0, 0, rows, columns].numpy() for rows in starts for columns in starts]
    assert module(numbers).detach().numpy()[0] == pytest.approx([np.linalg.norm(window) for window in windows])
