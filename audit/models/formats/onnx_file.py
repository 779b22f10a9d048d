"""ONNX files: checked, confined to their folder, stripped of every name they bring, then converted to torch.

The converter writes Python from the graph, and a name with a quote in it would become code: every node and tensor is
renamed first. Gradients are those of the converted torch modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from audit.config import TrustConfig
from audit.core.errors import ModelError, SetupError, UntrustedError
from audit.core.note import Note, note
from audit.core.registry import model_format
from audit.models.formats.onnx_graph import at_known_opset, companion_hashes, rename, require_plain, simplify
from audit.models.loaded import CheckpointContent, channels_last_note

if TYPE_CHECKING:
    from onnx import ModelProto

_FLOATS = {1: torch.float32, 10: torch.float16, 11: torch.float64}
"""TensorProto's codes of the input types that have gradients."""


@model_format(suffixes=(".onnx",), reference="https://onnx.ai/onnx/repo-docs/IR.html")
def onnx(path: Path, _trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The module that an .onnx file describes, converted to torch and compared with ONNX's reference.

    Args:
        path: The file. Raises UntrustedError when its weights are outside its folder.

    Raises:
        SetupError: Without the extra `onnx`.
        ModelError: For damaged files and for operators that have no conversion.
    """
    try:
        library = import_module("onnx")
        import_module("onnx2torch")
    except ImportError as fault:
        raise SetupError(
            f"{path.name} needs onnx and onnx2torch; install them with pip install 'audit[onnx]'."
        ) from fault
    try:
        proto = library.load(str(path), load_external_data=False)
        companions = companion_hashes(proto, path)
        library.checker.check_model(str(path), full_check=True)
        library.load_external_data_for_model(proto, str(path.parent))
    except UntrustedError:
        raise
    except Exception as fault:  # the parser and the checker raise types of their own
        raise ModelError(f"{path.name} is not a valid ONNX file ({_line(fault)}); export it again.") from fault
    require_plain(proto, path.name)
    rename(proto.graph)
    simplify(proto.graph)
    shape, kind = _input(proto, path.name)
    converted = _converted(proto, path.name)
    _require_same_answer(proto, converted, shape, kind, path.name)
    module = _Oriented(
        converted, channels_last=_channels_last(shape), kind=kind, single=_batch_is_one(shape, converted)
    )
    return CheckpointContent(module=module, notes=tuple(_notes(module, path.name)), companions=companions)


class _Oriented(nn.Module):
    """Images (N, C, H, W) in the layout, type and batch size that the file was exported for; one tensor out."""

    def __init__(self, net: nn.Module, *, channels_last: bool, kind: torch.dtype, single: bool) -> None:
        super().__init__()
        self.net = net
        self.channels_last = channels_last
        self.kind = kind
        self.single = single

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.kind)
        if self.channels_last:
            images = images.permute(0, 2, 3, 1)
        if self.single:
            return torch.cat([self._forward_batch(image[None]) for image in images])
        return self._forward_batch(images)

    def _forward_batch(self, images: Tensor) -> Tensor:
        return _first_of(self.net(images.contiguous()))


def _converted(proto: ModelProto, name: str) -> nn.Module:
    convert = import_module("onnx2torch").convert
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert(at_known_opset(proto)).eval()  # type: ignore[no-any-return]
    except Exception as fault:  # one type for each operator that is lacking
        raise ModelError(
            f"{name} cannot be converted to torch ({_line(fault)}). Export it with opset 17, or give the weights with "
            "--architecture."
        ) from fault


def _require_same_answer(
    proto: ModelProto, converted: nn.Module, shape: tuple[int, ...], kind: torch.dtype, name: str
) -> None:
    """Held against ONNX's own reference on one image. Raises ModelError when the conversion answers otherwise."""
    if len(shape) != 4 or not all(shape[1:]):
        return
    image = torch.rand((1, *shape[1:]), generator=torch.Generator("cpu").manual_seed(0), device="cpu").to(kind)
    reference = import_module("onnx.reference").ReferenceEvaluator(proto)
    try:
        expected = torch.from_numpy(reference.run(None, {proto.graph.input[0].name: image.numpy()})[0])
    except Exception as fault:  # pure numpy: whatever a graph that no runtime accepts makes it raise
        raise ModelError(f"{name} does not run in ONNX's reference ({_line(fault)}); export it again.") from fault
    with torch.no_grad():
        answer = _first_of(converted(image))
    if answer.shape != expected.shape or not torch.allclose(answer, expected, rtol=1e-2, atol=1e-3, equal_nan=True):
        raise ModelError(f"{name} answers otherwise after its conversion to torch; export it with opset 17.")


def _first_of(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _input(proto: ModelProto, name: str) -> tuple[tuple[int, ...], torch.dtype]:
    """The declared shape of the image input, 0 where it is free, and its type."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{name} takes {len(inputs)} inputs, where one tensor of images was expected.")
    tensor = inputs[0].type.tensor_type
    shape = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
    if len(shape) not in (0, 4) or tensor.elem_type not in _FLOATS:
        raise ModelError(
            f"{name} takes an input of shape {shape} and ONNX type {tensor.elem_type}, where floats of shape "
            "(N, C, H, W) or (N, H, W, C) were expected. Export the model from images in float."
        )
    return shape, _FLOATS[tensor.elem_type]


def _channels_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def _batch_is_one(shape: tuple[int, ...], net: nn.Module) -> bool:
    """Whether a graph exported for one image refuses two: some write the batch size into their reshapes."""
    if len(shape) != 4 or shape[0] != 1 or not all(shape[1:]):
        return False
    try:
        with torch.no_grad():
            return len(_first_of(net(torch.zeros(2, *shape[1:], device="cpu")))) != 2
    except (RuntimeError, IndexError, ValueError):
        return True


def _notes(module: _Oriented, name: str) -> Iterator[Note]:
    yield note(
        "model_onnx",
        "{name} was converted from ONNX to torch; gradients are those of the converted modules.",
        name=name,
    )
    if module.channels_last:
        yield channels_last_note(name)
    if module.single:
        yield note(
            "model_one_at_a_time",
            "{name} was exported for one image at a time, which is slow; export it with a free batch size.",
            name=name,
        )


def _line(fault: Any) -> str:
    return (str(fault).strip().split("\n", 1)[0] or type(fault).__name__)[:200].rstrip(". ")
