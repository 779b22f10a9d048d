"""The part of the image that a layer sees: a forward that crops its images first lays the layer's map over that."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.types import Images
from audit.explanation.captum_guard import eager, restored, uncounted
from audit.explanation.once_per_model import once_per_model
from audit.explanation.positions import Order
from audit.models.under_test import ModelUnderTest

_IMAGES = 2
"""Images of noise that are asked: a pixel may be without effect on one by chance."""


class SeenPart(NamedTuple):
    """A rectangle of the image, its ends as those of slices.

    Attributes:
        top: First row.
        bottom: After the last row.
        left: First column.
        right: After the last column.
    """

    top: int
    bottom: int
    left: int
    right: int


@once_per_model
def seen_part(model: ModelUnderTest, layer: str, order: Order) -> SeenPart:
    """The rectangle of pixels that a layer depends on, where it is smaller than the image by a position or more.

    Rows and columns at the border from which no gradient comes back are not seen: they were cropped away. Less than one
    position of the layer is what strides leave over, and the whole image is given.

    Args:
        model: The model; one pass each way, not counted.
        layer: The name of a layer that gives (N, ?, ?, ?).
        order: How its axes are to be permuted to (N, K, h, w).
    """
    height, width = model.input_shape[1:]
    generator = torch.Generator(device="cpu").manual_seed(9)
    images = torch.rand(_IMAGES, *model.input_shape, generator=generator, device="cpu").to(model.device)
    gradient, (rows, columns) = _gradient(model, images, layer, order, generator)
    if gradient is None or not bool(gradient.any()):
        return SeenPart(0, height, 0, width)
    effect = gradient.abs().sum((0, 1))
    top, bottom = _ends(effect.sum(1), height / rows)
    left, right = _ends(effect.sum(0), width / columns)
    return SeenPart(top, bottom, left, right)


def laid_over(coarse: Tensor, shape: tuple[int, int], part: SeenPart) -> Tensor:
    """A coarse map enlarged bilinearly over the part of the image that it is of; zero around it.

    Args:
        coarse: (N, 1, h, w).
        shape: (H, W) of the image.
        part: The part that the map's layer sees.
    """
    size = (part.bottom - part.top, part.right - part.left)
    enlarged = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    if size == shape:
        return enlarged
    return functional.pad(enlarged, (part.left, shape[1] - part.right, part.top, shape[0] - part.bottom))


def _gradient(
    model: ModelUnderTest, images: Images, layer: str, order: Order, generator: torch.Generator
) -> tuple[Tensor | None, tuple[int, int]]:
    """The gradient of a random sum of the layer's output to the images, and the layer's rows and columns."""
    outputs: list[Tensor] = []
    with restored(model), eager(model), uncounted(model), torch.enable_grad():
        model.net.get_submodule(layer).register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
        leaf = images.clone().requires_grad_(True)
        model.module(leaf.clone())  # a forward may write over its images
        output = outputs[-1]
        rows, columns = (output.shape[axis] for axis in order[2:])
        if not output.requires_grad:
            return None, (rows, columns)
        weights = torch.rand(output.shape, generator=generator, device="cpu").to(output)
        (gradient,) = torch.autograd.grad((output * weights).sum(), leaf, allow_unused=True)
    return gradient, (rows, columns)


def _ends(effect: Tensor, position: float) -> tuple[int, int]:
    """First and after the last that has an effect; a border of less than a position counts as seen."""
    seen = effect.nonzero().flatten()
    first, last = int(seen[0]), int(seen[-1]) + 1
    return (first if first >= position else 0), (last if len(effect) - last >= position else len(effect))
