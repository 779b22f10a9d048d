"""Which axes of a layer's output are rows and columns of the image: measured by changing a part of the image."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.types import Images
from audit.explanation.captum_guard import restored, uncounted
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

Order = tuple[int, int, int, int]
"""How a layer's axes are to be permuted to (N, K, h, w)."""
_PARTS = 3
"""Parts of the image a side."""
_CLEAR = 0.1
"""How clearly its own part must change a position, from 0 to 1, for the measurement to say where it is."""
_SELECTIVE = 2.6
"""How many times more than the mean one part changes a position that sees one part alone, at least."""
CHANNELS_FIRST: Order = (0, 1, 2, 3)
_ORDERS: tuple[Order, ...] = tuple((0, *order) for order in permutations((1, 2, 3)))  # type: ignore[misc]
"""Channels first before the others, so that it is taken where several would do."""


def axes_of_positions(model: ModelUnderTest, image: Images, layer: str) -> Order | None:
    """The order of a layer's axes that makes its positions those of the image; None where they are others.

    Each part of the image is changed in turn. Rows and columns are the axes along which the change moves with the part.
    Where every position sees the whole image, nothing can be said, and it is channels first.

    Args:
        model: The model; batches of five and of ten images, not counted.
        image: Float32 (1, C, H, W) in [0, 1].
        layer: The name of a layer that gives (N, ?, ?, ?).
    """
    effects = {side: _effects(model, image, layer, side) for side in range(2, _PARTS + 1)}
    clear: dict[Order, tuple[float, bool]] = {}
    for order in _ORDERS:
        shape = [effects[2].shape[axis] for axis in order]
        side = min(_PARTS, *shape[2:])
        if side >= 2:
            clear[order] = clear_diagonal(effects[side].permute(order), side)
    for order in sorted(clear, key=lambda order: -clear[order][0]):
        is_clear = clear[order][1] and clear[order][0] > 1.1 * clear.get(CHANNELS_FIRST, (0.0, False))[0]
        side = min(_PARTS, *(effects[2].shape[axis] for axis in order[2:]))
        if (is_clear or order == CHANNELS_FIRST) and not sees_elsewhere(effects[side].permute(order), side):
            return order
    return None


def sees_elsewhere(effects: Tensor, side: int) -> bool:
    """Whether positions see one part of the image each, and clearly another than their own.

    Args:
        effects: What each part changes, float (side x side, K, h, w).
        side: Parts a side.
    """
    seen = effects.square().mean(1).sqrt().flatten(1)
    seen = seen / seen.mean(1, keepdim=True).clamp(min=1e-30)
    seen = seen / seen.mean(0, keepdim=True).clamp(min=1e-30)
    own = (seen * _parts(effects.shape[2], effects.shape[3], side, side).flatten(1)).amax(0)
    alive = seen.sum(0) > 0
    if not bool(alive.any()):
        return False
    return float(seen.amax(0)[alive].mean()) > max(_SELECTIVE, 2 * float(own[alive].mean()))


def clear_diagonal(effects: Tensor, side: int) -> tuple[float, bool]:
    """How clearly a change of one part of the image changes the positions of that part, and whether clearly enough.

    Rows and columns each: 0 where the parts change all positions alike, 1 where each changes its own alone; the less of
    the two.

    Args:
        effects: What each part changes, float (side x side, K, h, w).
        side: Parts a side.
    """
    cells = functional.adaptive_avg_pool2d(effects.square().mean(1, keepdim=True), side).flatten(1).sqrt()
    four = cells.view(side, side, side, side)
    own = min(
        float(_relative(four.sum((1, 3))).diagonal().mean()), float(_relative(four.sum((0, 2))).diagonal().mean())
    )
    clear = (own - 1) / (side - 1)
    return clear, clear >= _CLEAR


def changed_parts(image: Images, side: int, fill: float | None = None) -> Images:
    """The image, and copies with one part each replaced, (1 + side x side, C, H, W).

    Args:
        image: Float32 (1, C, H, W) in [0, 1].
        side: Parts a side.
        fill: What by, in [0, 1]; None for noise.
    """
    masks = _parts(image.shape[2], image.shape[3], side, side).to(image.device)
    generator = torch.Generator(device="cpu").manual_seed(6)
    noise = torch.rand(image.shape, generator=generator, device="cpu").to(image)
    other = noise if fill is None else torch.full_like(image, fill)
    return torch.cat([image, torch.where(masks[:, None], other, image)])


def _relative(table: Tensor) -> Tensor:
    """Each number over what its row and its column let expect."""
    expected = table.mean(1, keepdim=True) * table.mean(0, keepdim=True) / table.mean().clamp(min=1e-30)
    return table / expected.clamp(min=1e-30)


def _effects(model: ModelUnderTest, image: Images, layer: str, side: int) -> Tensor:
    """How much each number of a layer's output changes with each part of the image, float (side x side, ...)."""
    outputs = layer_outputs(model, changed_parts(image, side), layer)
    return (outputs[1:] - outputs[:1]).float().abs().cpu()


def _parts(height: int, width: int, rows: int, columns: int) -> Tensor:
    down = torch.arange(height, device="cpu") * rows // height
    across = torch.arange(width, device="cpu") * columns // width
    number = down[:, None] * columns + across[None]
    return number[None] == torch.arange(rows * columns, device="cpu")[:, None, None]


def layer_outputs(model: ModelUnderTest, images: Images, layer: str) -> Tensor:
    """What a layer gives when it last runs, (N, ...), not counted.

    Args:
        model: The model.
        images: Float32 (N, C, H, W) in [0, 1].
        layer: The name of a layer that gives a tensor with a row an image.
    """
    parts: list[Tensor] = []

    def batch(rows: slice) -> Tensor:
        model.module(images[rows])
        last = parts[-1]
        parts.clear()
        return last

    with restored(model), uncounted(model), torch.no_grad():
        model.net.get_submodule(layer).register_forward_hook(lambda _, __, output: parts.append(output.clone()))
        return torch.cat(list(in_batches(len(images), model.layout, batch)))
