"""What a net's last linear layer, its head, is given: features in which images that it sees alike lie near each other.

The layer is found by what the forward does, whether a module or a function makes it: the last product of what depends
on the image with what does not, through which all goes that decides.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.precise import precise
from audit.core.types import Images, Logits, PassCount
from audit.explanation.captum_guard import uncounted
from audit.explanation.forward_trace import Operation, float_tensors, traced_forward
from audit.explanation.once_per_model import once_per_model
from audit.models.batching import in_batches
from audit.models.precision import ieee_float32
from audit.models.under_test import ModelUnderTest

_LINEAR = ("addmm", "mm", "bmm", "baddbmm", "mv", "addmv", "linear", "convolution", "_convolution")
"""ATen's products with weights."""
_TRIES = 12
"""Products from the end that are tried."""
_SAME = 1e-4
"""Difference, as a share of the largest value, up to which two results count as equal."""


@dataclass(frozen=True)
class Head:
    """The last linear layer of a net.

    Attributes:
        from_end: How many products of the forward come after it.
        operand: Which of its tensors depends on the image.
        width: The number of features, D.
        layer: The name of the layer that makes it; empty where none does, or where that layer makes further products.
        scale: What its outputs are multiplied by to give the logits, up to a number an image; None where the logits are
            something else of them.
    """

    from_end: int
    operand: int
    width: int
    layer: str
    scale: float | None


def penultimate_features(model: ModelUnderTest, images: Images) -> Tensor:
    """The input of the last linear layer, where images that the net sees alike lie near each other.

    Where the layer is applied at several positions or tokens, it is the mean over them.

    Args:
        model: The model; one forward an image; those that find the layer, once a model, are not counted.
        images: Float32 (N, C, H, W) in [0, 1].

    Returns:
        Float32 (N, D), on the model's device.

    Raises:
        NotApplicable: No linear layer was found that all goes through.
    """
    return _asked(model, images, find_head(model)).features


class FeaturesAndLogits(NamedTuple):
    """What one forward gives.

    Attributes:
        features: Float32 (N, D).
        logits: Float32 (N, classes).
    """

    features: Tensor
    logits: Logits


def features_and_logits(model: ModelUnderTest, images: Images) -> FeaturesAndLogits:
    """The features of images with the logits of the same forward; the logits alone, twice, where there is no head.

    Args:
        model: The model; one forward an image; those that find the layer, once a model, are not counted.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    try:
        head = find_head(model)
    except NotApplicable:
        logits = model.logits(images)
        return FeaturesAndLogits(logits, logits)
    return _asked(model, images, head)


def head_layer(model: ModelUnderTest) -> str:
    """The name of the last linear layer that all goes through; empty where there is none, or where it has no name.

    Args:
        model: The model; some forwards at the first time, which are not counted.
    """
    try:
        return find_head(model).layer
    except NotApplicable:
        return ""


def _asked(model: ModelUnderTest, images: Images, head: Head) -> FeaturesAndLogits:
    images = model.check_images(images)

    def batch(rows: slice) -> FeaturesAndLogits:
        model.charge(PassCount(len(images[rows])))
        return _features(model, images[rows], head)

    with ieee_float32():
        parts = list(in_batches(len(images), model.layout, batch))
    if not parts:
        return FeaturesAndLogits(images.new_zeros(0, head.width), images.new_zeros(0, len(model.classes)))
    return FeaturesAndLogits(*(torch.cat(column) for column in zip(*parts, strict=True)))


def find_head(model: ModelUnderTest) -> Head:
    """The last linear layer that all goes through.

    Args:
        model: The model; some forwards at the first time, which are not counted.

    Raises:
        NotApplicable: There is none.
    """
    with uncounted(model):
        return _found(model)


@once_per_model
def _found(model: ModelUnderTest) -> Head:
    generator = torch.Generator(device="cpu").manual_seed(11)
    pair = torch.rand(2, *model.input_shape, generator=generator, device="cpu").to(model.device)
    with ieee_float32():
        first, second = (_Products(model, image[None]) for image in pair)
        for from_end in range(min(_TRIES, len(first.operands), len(second.operands))):
            ours, theirs = first.operands[-1 - from_end], second.operands[-1 - from_end]
            moved = [
                index
                for index, (one, other) in enumerate(zip(ours, theirs, strict=False))
                if one.shape != other.shape or not bool(torch.equal(one, other))
            ]
            if len(moved) != 1 or not _decides(model, pair[1:], first, len(first.operands) - 1 - from_end):
                continue
            scale = _scale(first.results[-1 - from_end], first.logits)
            width = _by_image(ours[moved[0]], 1).shape[1]
            layer = first.layers[-1 - from_end]
            head = Head(from_end, moved[0], width, layer if first.layers.count(layer) == 1 else "", scale)
            if _belongs_to_its_image(model, pair, head):
                return head
    raise NotApplicable(
        note(
            "no_head",
            "The model has no last linear layer that all its answers go through, so there are no features of an image "
            "to compare.",
        )
    )


class _Products:
    """A forward's products with their tensors, oldest first."""

    def __init__(self, model: ModelUnderTest, image: Images) -> None:
        self.operands: list[list[Tensor]] = []
        self.results: list[Tensor] = []
        self.layers: list[str] = []

        def see(operation: Operation) -> Any:
            if not _is_product(operation):
                return operation.run()
            self.operands.append([tensor.detach().clone() for tensor in operation.tensors])
            result = operation.run()
            self.results.append(float_tensors(result)[0].detach().clone())
            self.layers.append(operation.layer)
            return result

        self.logits = traced_forward(model, image, see)


def _decides(model: ModelUnderTest, other: Images, products: _Products, number: int) -> bool:
    """Whether another image gets the logits of the first once it has the first one's result of this product."""
    count = -1

    def hold(operation: Operation) -> Any:
        nonlocal count
        result = operation.run()
        if _is_product(operation):
            count += 1
            if count == number and float_tensors(result)[0].shape == products.results[number].shape:
                float_tensors(result)[0].copy_(products.results[number])
        return result

    return _equal(traced_forward(model, other, hold), products.logits)


def _features(model: ModelUnderTest, images: Images, head: Head) -> FeaturesAndLogits:
    last: deque[Tensor] = deque(maxlen=head.from_end + 1)

    def see(operation: Operation) -> Any:
        if _is_product(operation):
            last.append(operation.tensors[head.operand].detach().clone())
        return operation.run()

    logits = traced_forward(model, images, see)
    return FeaturesAndLogits(_by_image(last[0], len(images)).float(), logits)


def _by_image(operand: Tensor, images: int) -> Tensor:
    """A row an image; positions (N, D, h, w), and tokens as further axes or as further rows, become their mean."""
    if operand.ndim >= 4:
        return operand.flatten(2).mean(2)
    if operand.ndim == 3 and len(operand) != images:  # a batch of matrices, (1, N, D) or tokens first
        operand = operand.transpose(0, 1) if operand.shape[1] == images else operand.flatten(0, 1)
    if operand.ndim == 1:
        operand = operand[None]
    return operand.reshape(images, -1, operand.shape[-1]).mean(1)


def _belongs_to_its_image(model: ModelUnderTest, pair: Images, head: Head) -> bool:
    """Whether the features of two images together are those of each alone."""
    together = _features(model, pair, head).features
    return _equal(together, torch.cat([_features(model, image[None], head).features for image in pair]))


def _scale(result: Tensor, logits: Tensor) -> float | None:
    if result.numel() != logits.numel():
        return None
    outputs, wanted = (precise(row.flatten()) - precise(row.flatten()).mean() for row in (result, logits))
    if not float(outputs.abs().max()) > 0:
        return None
    scale = float((outputs * wanted).sum() / outputs.square().sum())
    return scale if _equal(scale * outputs, wanted) and scale > 0 else None


def _equal(first: Tensor, second: Tensor) -> bool:
    largest = float(second.abs().max())
    return first.shape == second.shape and float((first - second).abs().max()) <= _SAME * max(largest, 1e-30)


def _is_product(operation: Operation) -> bool:
    return operation.name.removeprefix("aten.") in _LINEAR
