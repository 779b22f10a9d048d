"""The net of a verification instance: an ONNX file of any input shape as a function of one row of numbers."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.bounds.packed_file import is_packed, reading
from audit.core.errors import ModelError, NotApplicable, SetupError, one_line

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_FLOATS = (1, 11)
"""TensorProto's codes of float32 and float64."""
_SHARE = 1e-3
"""Share of the largest output by which torch may differ from the file's own answer in float32."""


class FlatNet(nn.Module):
    """A converted net as a function of rows (N, D) to rows (N, K).

    Attributes:
        alone: Whether it takes one row at a time.
    """

    def __init__(self, net: nn.Module, shape: tuple[int, ...]) -> None:
        """Around a converted net.

        Args:
            net: What the loader of ONNX files gives; its `run` takes tensors in the file's shape.
            shape: Of one input, without the batch.
        """
        super().__init__()
        self.net = net
        self.shape = shape
        self.alone = getattr(net, "largest_batch", 0) > 0

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs.

        Args:
            inputs: (N, D).
        """
        if self.alone and len(inputs) > 1:
            return torch.cat([self(row[None]) for row in inputs])
        outputs: Tensor = self.net.run(inputs.reshape(len(inputs), *self.shape))  # type: ignore[operator]
        return outputs if outputs.shape[:-1] == inputs.shape[:-1] else outputs.reshape(len(inputs), -1)


@dataclass(frozen=True)
class VerificationNet:
    """A net that a property is about.

    Attributes:
        name: The file's name.
        inputs: How many numbers it takes.
        outputs: How many it gives; 0 where the file does not say.
        flat: It in torch, in float32 and eval mode; None where it cannot be converted.
        refusal: Why not.
        own: The file's own answer to one input (D,), by onnxruntime; None where that is not installed.
        ending: The operator that gives the outputs.
    """

    name: str
    inputs: int
    outputs: int
    flat: FlatNet | None
    refusal: str
    own: Callable[[Tensor], Tensor] | None
    ending: str = ""


def read_net(path: Path) -> VerificationNet:
    """The net of a file.

    Args:
        path: An .onnx file, or one compressed with gzip.

    Raises:
        SetupError: onnx is not installed.
        ModelError: The file is damaged, or its net has not one input and one output of floats in a fixed shape.
        NotApplicable: The net draws random numbers.
    """
    try:
        library = import_module("onnx")
    except ImportError as fault:
        raise SetupError(f"{path.name} needs onnx; install it with pip install 'audit[onnx]'.") from fault
    with tempfile.TemporaryDirectory() as folder:
        file = _unpacked(path, Path(folder))
        try:
            proto: ModelProto = library.load(str(file))
            library.checker.check_model(proto)
        except Exception as fault:  # the parser and the checker raise types of their own
            raise ModelError(f"{path.name} is not a valid ONNX file ({one_line(fault)}); export it again.") from fault
        _require_deterministic(proto, path.name)
        shape, batched = _input_shape(proto, path.name)
        flat, refusal = None, ""
        try:
            flat = _converted(proto, file, Path(folder), shape, batched)
        except ModelError as fault:
            refusal = str(fault)
        own = _own_answer(proto, shape, batched)
    return VerificationNet(path.name, math.prod(shape), _outputs(proto, batched), flat, refusal, own, _ending(proto))


def require_agreement(net: VerificationNet, evaluate: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    """Compare another form of the net with the file itself.

    Args:
        net: The net.
        evaluate: The other form: (N, D) to (N, K).
        inputs: Where to compare, float32 (N, D).

    Raises:
        NotApplicable: It answers otherwise, or the file answers otherwise from one time to the next.
    """
    answers = evaluate(inputs)
    expected = file_answers(net, inputs)
    again = file_answers(net, inputs)
    if not torch.equal(expected, again):
        raise NotApplicable(f"{net.name} is not deterministic: it answers the same input otherwise the next time.")
    if answers.shape != expected.shape or not bool(
        ((answers - expected).abs() <= _SHARE * expected.abs().amax().clamp(min=1.0)).all()
    ):
        raise NotApplicable(
            f"{net.name} answers otherwise than the operations recorded of it, as a net does that depends on the "
            "batch; bounds do not hold for it."
        )


def file_answers(net: VerificationNet, inputs: Tensor) -> Tensor:
    """The outputs by onnxruntime where it is installed, else by torch, float64 (N, K).

    Args:
        net: The net.
        inputs: Float32 (N, D).
    """
    if net.own is not None:
        return torch.stack([net.own(row) for row in inputs])
    assert net.flat is not None
    with torch.no_grad():
        return torch.cat([net.flat(row[None]) for row in inputs]).double()


def _unpacked(path: Path, folder: Path) -> Path:
    """The file itself, or what it holds where gzip packed it."""
    with reading(path, ModelError):
        with path.open("rb") as stream:
            packed = is_packed(stream.read(2))
        if not packed:
            return path
        unpacked = folder / "unpacked.onnx"
        unpacked.write_bytes(gzip.decompress(path.read_bytes()))
        return unpacked


def _require_deterministic(proto: ModelProto, name: str) -> None:
    for node in proto.graph.node:
        if node.op_type in _RANDOM:
            raise NotApplicable(
                f"{name} is not deterministic: layer {node.name or node.output[0]!r} ({node.op_type}) draws random "
                "numbers, so nothing can be proven of it."
            )


def _input_shape(proto: ModelProto, name: str) -> tuple[tuple[int, ...], bool]:
    """The shape of one input, and whether the file has an axis for the batch before it."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    values = [value for value in proto.graph.input if value.name not in weights]
    if len(values) != 1 or len(proto.graph.output) != 1:
        raise ModelError(
            f"{name} has {len(values)} inputs and {len(proto.graph.output)} outputs, where one of each was expected."
        )
    tensor = values[0].type.tensor_type
    shape = tuple(max(int(dim.dim_value), 0) for dim in tensor.shape.dim)
    if tensor.elem_type not in _FLOATS:
        raise ModelError(f"{name} takes numbers of ONNX type {tensor.elem_type}, where floats were expected.")
    if not shape or not all(shape[1:]) or (len(shape) == 1 and not shape[0]):
        raise ModelError(f"{name} does not say how many numbers it takes; export it with the shape of its input.")
    batched = len(shape) > 1 and shape[0] <= 1
    return (shape[1:] if batched else shape), batched


def _outputs(proto: ModelProto, batched: bool) -> int:
    shape = [int(dim.dim_value) for dim in proto.graph.output[0].type.tensor_type.shape.dim]
    sizes = shape[1:] if batched and len(shape) > 1 else shape
    return math.prod(sizes) if sizes and all(size > 0 for size in sizes) else 0


def _ending(proto: ModelProto) -> str:
    """The operator that gives the outputs, before reshapes."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    node = makers.get(proto.graph.output[0].name)
    while node is not None and node.op_type in _VIEWS:
        node = makers.get(node.input[0])
    return "" if node is None else str(node.op_type)


def _converted(proto: ModelProto, file: Path, folder: Path, shape: tuple[int, ...], batched: bool) -> FlatNet:
    """The module, by the loader of models; what it takes for no image is given rows of numbers first."""
    from audit.models.formats.onnx_file import onnx

    rows = not batched or len(shape) > 3
    if rows:
        file = folder / "rows.onnx"
        import_module("onnx").save(_taking_rows(proto, shape, batched), str(file))
    content = onnx(file, ())
    assert content.module is not None
    return FlatNet(content.module.float().eval(), (math.prod(shape),) if rows else shape)


def _taking_rows(proto: ModelProto, shape: tuple[int, ...], batched: bool) -> ModelProto:
    """The net with an input (N, D): reshaped first, or, of one axis and without a batch, as it is."""
    helper, numpy_helper = (import_module(f"onnx.{part}") for part in ("helper", "numpy_helper"))
    changed: ModelProto = type(proto).FromString(proto.SerializeToString())
    del changed.graph.value_info[:]
    weights = {tensor.name for tensor in proto.graph.initializer}
    value = next(value for value in changed.graph.input if value.name not in weights)
    size, own = math.prod(shape), value.type.tensor_type
    fixed = own.shape.dim[0].dim_value == 1 or not batched  # the loader frees what was written for a batch of 1
    own_type, name = own.elem_type, value.name
    value.CopyFrom(helper.make_tensor_value_info(name, own_type, [1 if fixed else "batch", size]))
    if batched or len(shape) > 1:
        target = [1 if fixed else -1, *shape] if batched else list(shape)
        value.name = "rows of numbers"
        changed.graph.initializer.append(numpy_helper.from_array(np.array(target), "shape of the input"))
        node = helper.make_node("Reshape", ["rows of numbers", "shape of the input"], [name])
        changed.graph.node.insert(0, node)
    output = changed.graph.output[0]
    outputs = _outputs(proto, batched)
    if not batched and outputs:
        _without_last_views(changed.graph)
        row = np.array([1, outputs])
        changed.graph.initializer.append(numpy_helper.from_array(row, "shape of the output"))
        node = helper.make_node("Reshape", [output.name, "shape of the output"], ["row of outputs"])
        changed.graph.node.append(node)
        output.name = "row of outputs"
    output.type.tensor_type.ClearField("shape")
    return changed


def _without_last_views(graph: GraphProto) -> None:
    """Take away reshapes at the end, which keep the order of the outputs and would mix several rows into one axis."""
    while graph.node and graph.node[-1].op_type in _VIEWS and graph.node[-1].output[0] == graph.output[0].name:
        graph.output[0].name = graph.node[-1].input[0]
        del graph.node[-1]


def _own_answer(proto: ModelProto, shape: tuple[int, ...], batched: bool) -> Callable[[Tensor], Tensor] | None:
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # types of its own; what it does not run is held against torch alone
        return None
    source = session.get_inputs()[0]
    double = source.type == "tensor(double)"

    def answer(row: Tensor) -> Tensor:
        values = row.reshape(1, *shape) if batched else row.reshape(shape)
        array = values.numpy().astype("float64" if double else "float32")
        outputs: Any = session.run(None, {source.name: array})[0]
        return torch.from_numpy(outputs).double().flatten()

    return answer
