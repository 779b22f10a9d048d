"""What class activation maps are made of: a layer's output and the gradient to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.types import Images
from audit.explanation.captum_guard import in_leaf_batches, restored
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.target_layer import spatial_layer
from audit.masking.outputs import score
from audit.models.under_test import ModelUnderTest

Combine = Callable[[Tensor, Tensor], Tensor]
"""`(activations, gradients) -> coarse map`, from (N, K, h, w) each to (N, 1, h, w)."""


def activation_map(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, layer: str | None, combine: Combine
) -> Attribution:
    """`combine` at the named (or last spatial) layer, its positive part enlarged bilinearly to (N, 1, H, W)."""
    name, module = spatial_layer(model, images[:1], layer)

    def one(leaf: Images, part: slice) -> Tensor:
        coarse = combine(*_at_layer(model, module, leaf, explained.part(part)))
        return functional.interpolate(coarse, size=leaf.shape[2:], mode="bilinear", align_corners=False).relu()

    with restored(model):
        maps = in_leaf_batches(model, images, one)
    return Attribution(maps, {"peak": maps.flatten(1).amax(1)}, {"layer": name})


def _at_layer(
    model: ModelUnderTest, layer: nn.Module, leaf: Images, explained: ExplanationSpec
) -> tuple[Tensor, Tensor]:
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
