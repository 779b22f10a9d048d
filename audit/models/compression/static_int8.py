"""Int8 by onnxruntime's static quantisation: a file of bytes, and the module that it says in torch.

Ranges of what flows between the layers are learnt on calibration images (Krishnamoorthi 2018, arXiv:1806.08342). The
file holds them beside its operators (QuantizeLinear, DequantizeLinear), so that any runtime of ONNX reads it:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.core.errors import ModelError, SetupError, one_line
from audit.core.types import Images
from audit.models.compression.cost import Footprint
from audit.models.formats.onnx_conversion import convert_graph
from audit.models.formats.onnx_graph import sort
from audit.models.formats.onnx_header import PRODUCER, parsed
from audit.models.module_copy import copy_module
from audit.models.outputs import OutputReader
from audit.models.under_test import ModelUnderTest

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "model.onnx"
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_BATCH = 32
_IMAGES, _LOGITS = "images", "logits"


def require_onnxruntime() -> None:
    """Check that int8 can be made here.

    Raises:
        SetupError: A library is missing.
    """
    for name in _NEEDED:
        try:
            import_module(name)
        except ImportError as fault:
            raise SetupError(
                f"int8 needs onnxruntime, and {name} is missing; install both with pip install 'audit[onnx]'."
            ) from fault


def quantised_file(model: ModelUnderTest, calibration: Images) -> bytes:
    """The model in int8 as an ONNX file, from images in [0, 1] to logits, for any number of images.

    Weights take 7 bits with a scale an output channel, what flows between layers 8 bits with one scale and zero point:
    so that no product of two bytes overflows the 16 bits in which processors without VNNI add a pair of them.

    Args:
        model: The model, which stays as it is.
        calibration: Images that the ranges are learnt on, float32 (N, C, H, W) in [0, 1].

    Raises:
        ModelError: torch does not export the net, or onnxruntime does not quantise it.
        SetupError: A library is missing.
    """
    require_onnxruntime()
    quantisation: Any = import_module("onnxruntime.quantization")
    preparation: Any = import_module("onnxruntime.quantization.shape_inference")
    images = calibration.cpu().numpy()
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            plain, prepared, path = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx", NAME))
            plain.write_bytes(_exported(model).SerializeToString())
            preparation.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantisation.quantize_static(
                prepared,
                path,
                _Reader(images),
                quant_format=quantisation.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=quantisation.QuantType.QUInt8,
                weight_type=quantisation.QuantType.QInt8,
            )
            return _with_exact_logits(path.read_bytes())
    except Exception as fault:  # both libraries raise whatever types they like
        raise ModelError(
            f"The net cannot be brought to int8: it is not exported to ONNX and quantised there ({one_line(fault)}). "
            "Compress it by another method."
        ) from fault


def differentiable_form(file: bytes) -> nn.Module:
    """The module of torch that a file of `quantised_file` says: the same rounded numbers, gradients straight through.

    Args:
        file: The bytes of the file.

    Raises:
        ModelError: An operator of it is not converted.
    """
    proto = parsed(file)
    sort(proto.graph)
    return convert_graph(proto, NAME)[0]


def file_footprint(file: bytes) -> Footprint:
    """The size of a file; single numbers, such as scales, are no weights.

    Args:
        file: The bytes of the file.
    """
    graph = parsed(file).graph
    scales = {name for node in graph.node if node.op_type.endswith("eLinear") for name in node.input[1:]}
    arrays = [import_module("onnx.numpy_helper").to_array(t) for t in graph.initializer if t.name not in scales]
    weights = [array for array in arrays if array.dtype in (np.float32, np.int8, np.int32) and array.size > 1]
    return Footprint(
        parameters=sum(array.size for array in weights),
        nonzero=sum(int(np.count_nonzero(array)) for array in weights),
        bytes=len(file),
        compressed_bytes=len(zlib.compress(file)),
    )


def float_operators(file: bytes) -> tuple[str, ...]:
    """Names of operators with weights that compute in floats.

    Args:
        file: The bytes of the file.
    """
    graph = parsed(file).graph
    real = {t.name for t in graph.initializer if t.data_type == 1 and sum(size > 1 for size in t.dims) > 1}
    return tuple(sorted({node.op_type for node in graph.node if real & set(node.input)}))


def _with_exact_logits(file: bytes) -> bytes:
    """The file without the rounding of its output, which makes ties of near logits and steps of their slopes."""
    proto = parsed(file)
    graph = proto.graph
    made_by = {name: node for node in graph.node for name in node.output}
    real = made_by[graph.output[0].name]
    rounded = made_by.get(real.input[0]) if real.op_type == "DequantizeLinear" else None
    if rounded is None or rounded.op_type != "QuantizeLinear":
        return file
    source = made_by[rounded.input[0]]
    graph.node.remove(real)
    graph.node.remove(rounded)
    source.output[list(source.output).index(rounded.input[0])] = graph.output[0].name
    return bytes(proto.SerializeToString(deterministic=True))


class _Whole(nn.Module):
    """From images in [0, 1] to logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, reader: OutputReader, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net, self.reader = net, reader
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        return self.reader(self.net((images - self.mean) / self.std), images.shape[0])


class _Reader:
    """Calibration images, a batch at a time."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._parts: Iterator[NDArray[np.float32]] = iter(
            [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, None after the last."""
        part = next(self._parts, None)
        return None if part is None else {_IMAGES: part}


def _exported(model: ModelUnderTest) -> ModelProto:
    """The model in ONNX, without the traces of source code that the exporter leaves in it."""
    module = model.module
    whole = _Whole(copy_module(module.net), model.reader, module.mean, module.std).cpu().eval()
    some = torch.rand(2, *model.input_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    program = torch.onnx.export(
        whole,
        (some,),
        dynamo=True,
        verbose=False,
        input_names=[_IMAGES],
        output_names=[_LOGITS],
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    assert program is not None
    proto: ModelProto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    proto.producer_name, proto.producer_version = PRODUCER, ""
    return proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that both libraries log, and without the handler that logging on the root logger leaves."""
    root, before = logging.getLogger(), logging.root.manager.disable
    silent = logging.NullHandler()
    root.addHandler(silent)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(silent)
