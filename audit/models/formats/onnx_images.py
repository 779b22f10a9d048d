"""How an ONNX file takes its images: layout, size, type, range and batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.models.fixed_batch import in_filled_batches
from audit.models.formats.onnx_net import OnnxNet
from audit.models.formats.onnx_node import TYPES, attributes_of, tensor_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

_SIDES = (224, 32, 28, 64, 299)
"""Heights and widths that a net of free size is tried with."""
_RAW = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 10: torch.float16, 11: torch.float64}
"""The types of images that are taken, as the file has them."""
_WHOLE = (torch.uint8, torch.int32, torch.int64)
_CONTRASTS = (1.0, 0.3, 0.6)
"""Of the noise, image by image, so that a net that looks at the whole batch answers otherwise than on each alone."""
_MANY = 50
"""A mean or a deviation above this is one of pixels from 0 to 255."""


@dataclass(frozen=True)
class ImageInput:
    """What the file's input takes.

    Attributes:
        shape: As declared, the batch first; 0 where it is free.
        raw: The type that the file declares.
        scale: What images in [0, 1] are multiplied by.
    """

    shape: tuple[int, ...]
    raw: torch.dtype
    scale: float = 1.0

    @property
    def channels_last(self) -> bool:
        """Whether it takes (N, H, W, C)."""
        return len(self.shape) == 4 and self.shape[3] in (1, 3) and self.shape[1] not in (1, 3)

    @property
    def known(self) -> bool:
        """Whether the file says the size of the images."""
        return all(self.shape[1:])

    @property
    def batch(self) -> int:
        """The batch size that the file was exported for, 0 for any."""
        return self.shape[0]

    def candidates(self) -> Iterator[tuple[int, ...]]:
        """Shapes of one image, in the file's layout, that it may take."""
        channels = 3 if self.channels_last else 1
        for count in (3, 1):
            for side in _SIDES:
                free = [count if i == channels and len(self.shape) == 4 else side for i in range(1, len(self.shape))]
                yield tuple(size or other for size, other in zip(self.shape[1:], free, strict=True))
                if self.known:
                    return
            if len(self.shape) < 4 or self.shape[channels]:
                return

    def draw(self, shape: tuple[int, ...], count: int) -> Tensor:
        """Images of noise in the file's layout and type.

        Args:
            shape: Of one image.
            count: How many.
        """
        noise = torch.rand((count, *shape), generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        contrast = torch.tensor(_CONTRASTS)[torch.arange(count) % len(_CONTRASTS)]
        noise = noise * contrast.reshape(-1, *[1] * len(shape))
        if self.raw in _WHOLE:
            return (noise * 255).round().to(self.raw)
        return (noise * self.scale).to(self.raw)

    def computed(self, images: Tensor) -> Tensor:
        """Images of the file's type in the type that the net computes in.

        Args:
            images: In the file's type.
        """
        return images.double() if self.raw == torch.float64 else images.float()


def image_input_of(value: ValueInfoProto, graph: GraphProto, name: str) -> ImageInput:
    """How the file takes its images.

    Args:
        value: The declared input.
        graph: The graph.
        name: The file's name, for errors.

    Raises:
        ModelError: It takes no images.
    """
    tensor = value.type.tensor_type
    shape = tuple(max(int(dim.dim_value), 0) for dim in tensor.shape.dim) or (0, 0, 0, 0)
    raw = _RAW.get(tensor.elem_type, torch.float32 if tensor.elem_type == 16 else None)
    if raw is None or len(shape) not in (2, 3, 4):
        kind = str(TYPES.get(tensor.elem_type, f"number {tensor.elem_type} of ONNX")).removeprefix("torch.")
        raise ModelError(
            f"{name} takes an input of shape {shape} and type {kind}, where images of shape (N, C, H, W) or "
            "(N, H, W, C) in floats or whole numbers were expected. Export the model from images."
        )
    if len(shape) == 3 and shape[0] == 3:
        raise ModelError(
            f"{name} takes one image of shape {shape}, without an axis for the batch. Export it from images of shape "
            "(N, C, H, W), with N = 1 at least."
        )
    image = ImageInput(shape, raw)
    return replace(image, scale=255.0) if raw in _WHOLE or _rescales(graph, value.name) else image


def _rescales(graph: GraphProto, image: str) -> bool:
    """Whether the first thing done to the pixels says that they run from 0 to 255."""
    constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    names = {image}
    for node in graph.node:
        if not names & set(node.input):
            continue
        if node.op_type in ("Transpose", "Cast", "Identity", "Reshape", "Resize", "Split", "Concat", "Gather", "Pad"):
            names |= set(node.output)
            continue
        return _first_step_rescales(node, names, constants)
    return False


def _first_step_rescales(node: NodeProto, names: set[str], constants: Mapping[str, Any]) -> bool:
    others = [tensor_of(constants[name]) for name in node.input if name in constants]
    if not others or node.input[0] not in names | set(constants):
        return False
    if node.op_type == "Mul":
        return 0 < float(others[0].abs().max()) < 1 / 50
    if node.op_type == "Div":
        return node.input[0] in names and float(others[0].abs().min()) > _MANY
    if node.op_type in ("Sub", "Add"):
        return float(others[0].abs().max()) > _MANY
    if node.op_type == "BatchNormalization" and len(others) == 4:
        return float(others[2].abs().max()) > _MANY and not attributes_of(node).get("training_mode", 0)
    return False


class OrientedNet(nn.Module):
    """Images (N, C, H, W) in [0, 1] brought into the layout, range and batch size of the file; its scores out.

    Attributes:
        largest_batch: How many images it takes in one forward, 0 for any number; more are split.
    """

    def __init__(self, net: OnnxNet, image: ImageInput, *, batch: int, name: str) -> None:
        """Around a converted net.

        Args:
            net: The converted net.
            image: How it takes images.
            batch: How many images it takes at a time, 0 for any number.
            name: The file's name, for errors.
        """
        super().__init__()
        self.net = net
        self.image = image
        self.largest_batch = batch
        self.name = name

    def forward(self, images: Tensor) -> Any:
        """Scores of images: a tensor, or a dictionary of several by the names of the outputs.

        Args:
            images: (N, C, H, W) in [0, 1].

        Raises:
            ModelError: Their size is not the file's, and the net does not run on it.
        """
        inputs = self._arranged(images)
        other = isinstance(inputs, Tensor) and self.image.known and tuple(inputs.shape[1:]) != self.image.shape[1:]
        if other and self.net.bound:
            raise self._other_size(inputs)
        try:
            return self.run(inputs)
        except (RuntimeError, IndexError) as fault:
            if other:
                raise self._other_size(inputs) from fault
            raise

    def _other_size(self, inputs: Tensor) -> ModelError:
        axis = -1 if self.image.channels_last else 1
        wanted, channels = self.image.shape[axis], inputs.shape[axis]
        remedy = "Bring them to its size with --image-size."
        if inputs.ndim == 4 and wanted != channels:
            remedy = "Read them with --grayscale." if wanted == 1 else f"Give images of {wanted} channels."
        elif inputs.ndim == 2:
            remedy = "Bring them to so many pixels with --image-size, or export a net that takes (N, C, H, W)."
        return ModelError(
            f"{self.name} was exported for images of {_size(self.image.shape[1:])}, and does not run on images of "
            f"{_size(tuple(inputs.shape[1:]))}. {remedy}"
        )

    def _arranged(self, images: Tensor) -> Tensor:
        if self.image.raw == torch.float64:
            images = images.double()
        if self.image.scale != 1:
            images = images * self.image.scale
        if self.image.channels_last:
            return images.permute(0, 2, 3, 1).contiguous()
        if len(self.image.shape) < 4:
            if images.shape[1] != 1 and self.image.shape[1:] == (images[0].numel(),):
                raise ModelError(
                    f"{self.name} takes the {images[0].numel()} numbers of an image in a row, and does not say whether "
                    "those of a channel or those of a pixel stand together. Export a net that takes (N, C, H, W)."
                )
            if images.shape[1] != 1:
                raise ModelError(
                    f"{self.name} takes images without channels, of {_size(self.image.shape[1:])}, and these have "
                    f"{images.shape[1]}. Give images in grey, with --grayscale, or export a net that takes channels."
                )
            return images.flatten(1) if len(self.image.shape) == 2 else images[:, 0]
        return images

    def run(self, inputs: Tensor) -> Any:
        """Scores of images that are in the layout and the range of the file, in batches of its size.

        Args:
            inputs: What `image` takes.
        """
        if not self.largest_batch:
            return self.net(inputs)
        return in_filled_batches(self.net, inputs.contiguous(), self.largest_batch)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
