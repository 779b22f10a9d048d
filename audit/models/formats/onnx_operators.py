"""The whole table of ONNX operators: its import fills it, in a process that was handed a net as well."""

from __future__ import annotations

from audit.models.formats import (
    onnx_arithmetic,
    onnx_layers,
    onnx_quantised,
    onnx_recurrent,
    onnx_resize,
    onnx_shapes,
    onnx_windows,
)
from audit.models.formats.onnx_node import OPERATORS

FILLED_BY = (onnx_arithmetic, onnx_layers, onnx_quantised, onnx_recurrent, onnx_resize, onnx_shapes, onnx_windows)
"""The modules that enter operators."""

__all__ = ["FILLED_BY", "OPERATORS"]
