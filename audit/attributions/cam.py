"""What class activation maps are made of: a layer's output and the gradient to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.attributions.explained import Explained, Explanation
from audit.attributions.layers import spatial_layer
from audit.attributions.library import borrowed, by_batches
from audit.models.under_test import ModelUnderTest
from audit.passes.scores import score
from audit.types import Images

Combine = Callable[[Tensor, Tensor], Tensor]
"""`(activations, gradients) -> coarse map`, from (N, K, h, w) each to (N, 1, h, w)."""


def activation_map(
    model: ModelUnderTest, images: Images, explained: Explained, layer: str | None, combine: Combine
) -> Explanation:
    """`combine` at the named (or last spatial) layer, its positive part enlarged bilinearly to (N, 1, H, W)."""
    name, module = spatial_layer(model, images[:1], layer)

    def one(leaf: Images, part: slice) -> Tensor:
        coarse = combine(*_at_layer(model, module, leaf, explained.part(part)))
        return functional.interpolate(coarse, size=leaf.shape[2:], mode="bilinear", align_corners=False).relu()

    with borrowed(model):
        maps = by_batches(model, images, one)
    return Explanation(maps, {"peak": maps.flatten(1).amax(1)}, {"layer": name})


def _at_layer(model: ModelUnderTest, layer: nn.Module, leaf: Images, explained: Explained) -> tuple[Tensor, Tensor]:
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        seen.append(output)
        return output.clone()  # an in-place activation that follows must not change what was seen

    hook = layer.register_forward_hook(keep)
    try:
        outputs = score(model.module(leaf), explained.targets, explained.output)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(outputs.sum(), seen[-1])
    return seen[-1].detach(), gradient
