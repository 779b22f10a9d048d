"""Class activation maps: channels of a convolution, weighted by their gradients (Grad-CAM, Grad-CAM++, Layer-CAM)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.evidence import Better
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.captum_guard import restored
from audit.explanation.gradients import in_leaf_batches
from audit.explanation.positions import CHANNELS_FIRST
from audit.explanation.seen_part import laid_over, seen_part
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.target_layer import spatial_layer
from audit.masking.outputs import Scored, score
from audit.models.under_test import ModelUnderTest

CoarseMap = Callable[[Tensor, Tensor], Tensor]
"""`(activations, gradients) -> coarse map`, from (N, K, h, w) each to (N, 1, h, w)."""
_QUALITY: Mapping[str, tuple[str, Better]] = {"peak": ("output", "neither")}


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """One forward finds the layer, one forward and one backward make the map."""
    return PassCount(2, 1)


@attribution(
    reference="arXiv:1610.02391",
    needs="spatial layer",
    signed=False,
    passes=_passes,
    quality_units=_QUALITY,
    wraps="captum",
)
def grad_cam(model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, layer: str | None = None) -> Attribution:
    """Channels of the last convolution, weighted by their mean gradient, the positive part, enlarged bilinearly.

    Equations 1 and 2 of arXiv:1610.02391. The map is (N, 1, H, W) and never negative; all zero means "no positive
    evidence". Quality: `peak`, the highest value.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        layer: The layer to read; None for the last convolution whose map decides.

    Raises:
        NotApplicable: The model has no layer whose map decides.
        UsageError: The model has no layer of that name.
    """
    from captum.attr import LayerGradCam

    name, module, order = spatial_layer(model, layer)
    if order != CHANNELS_FIRST:  # the library reads channels first
        return _activation_map(model, images, spec, layer, grad_cam_map)
    method, part = LayerGradCam(Scored(model, spec.output), module), seen_part(model, name, order)

    def enlarged(leaf: Images, rows: slice) -> Tensor:
        coarse = method.attribute(leaf, target=spec.targets[rows], relu_attributions=True)
        return laid_over(coarse, (leaf.shape[2], leaf.shape[3]), part)

    with restored(model):
        maps = in_leaf_batches(model, images, enlarged)
    return Attribution(maps, {"peak": maps.flatten(1).amax(1)}, {"layer": name})


@attribution(
    reference="arXiv:1710.11063",
    needs="spatial layer",
    signed=False,
    passes=_passes,
    quality_units=_QUALITY,
    version="2",
)
def grad_cam_plus_plus(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, layer: str | None = None
) -> Attribution:
    """Channels weighted by their positive gradients, each place by the paper's closed form; positive part, enlarged.

    The map is (N, 1, H, W) and never negative; all zero means "no positive evidence". Quality: `peak`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        layer: The layer to read; None for the last convolution whose map decides.

    Raises:
        NotApplicable: The model has no layer whose map decides.
        UsageError: The model has no layer of that name.
    """
    return _activation_map(model, images, spec, layer, grad_cam_plus_plus_map)


@attribution(
    reference="doi:10.1109/TIP.2021.3089943",
    needs="spatial layer",
    signed=False,
    passes=_passes,
    quality_units=_QUALITY,
)
def layer_cam(model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, layer: str | None = None) -> Attribution:
    """The sum over channels of activation x positive gradient at each place; positive part, enlarged.

    Sharp enough to read early layers too. The map is (N, 1, H, W) and never negative; all zero means "no positive
    evidence". Quality: `peak`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        layer: The layer to read; None for the last convolution whose map decides.

    Raises:
        NotApplicable: The model has no layer whose map decides.
        UsageError: The model has no layer of that name.
    """
    return _activation_map(model, images, spec, layer, layer_cam_map)


def grad_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """The coarse map of Grad-CAM, (N, 1, h, w), before its positive part is taken.

    Args:
        activations: The layer's output, (N, K, h, w).
        gradients: The gradient of the explained output to it, (N, K, h, w).
    """
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()


def grad_cam_plus_plus_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """The coarse map of Grad-CAM++, (N, 1, h, w), for an output taken through exp, whose common factor drops out.

    The paper's activations are rectified; a layer read before its ReLU is, too: negative sums would turn the weights.

    Args:
        activations: The layer's output, (N, K, h, w).
        gradients: The gradient of the explained output to it, (N, K, h, w).
    """
    activations = activations.relu()
    # Equations 19 and 20 of arXiv:1710.11063.
    squared, cubed = gradients**2, gradients**3
    below = 2 * squared + activations.sum((2, 3), keepdim=True) * cubed
    alpha = squared / below.where(below != 0, 1)
    weights = (alpha * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1, keepdim=True)


def layer_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """The coarse map of LayerCAM, (N, 1, h, w) (Jiang et al. 2021, equation 6).

    Args:
        activations: The layer's output, (N, K, h, w).
        gradients: The gradient of the explained output to it, (N, K, h, w).
    """
    return (gradients.relu() * activations).sum(1, keepdim=True)


def _activation_map(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, layer: str | None, coarse_map: CoarseMap
) -> Attribution:
    """`coarse_map` at the named (or last spatial) layer, its positive part enlarged bilinearly to (N, 1, H, W)."""
    name, module, order = spatial_layer(model, layer)
    part = seen_part(model, name, order)

    def enlarged(leaf: Images, rows: slice) -> Tensor:
        activations, gradients = _at_layer(model, module, leaf, spec.part(rows))
        coarse = coarse_map(activations.permute(order), gradients.permute(order))
        return laid_over(coarse, (leaf.shape[2], leaf.shape[3]), part).relu()

    with restored(model):
        maps = in_leaf_batches(model, images, enlarged)
    return Attribution(maps, {"peak": maps.flatten(1).amax(1)}, {"layer": name})


def _at_layer(model: ModelUnderTest, layer: nn.Module, leaf: Images, spec: ExplanationSpec) -> tuple[Tensor, Tensor]:
    """The layer's output and the gradient of the explained output to it, in the layer's own order of axes."""
    activations: list[Tensor] = []

    def record_activations(_: nn.Module, __: object, output: Tensor) -> Tensor:
        activations.append(output)
        return output.clone()  # an in-place activation that follows must not change what was kept

    hook = layer.register_forward_hook(record_activations)
    try:
        outputs = score(model.module(leaf), spec.targets, spec.output)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(outputs.sum(), activations[-1])
    return activations[-1].detach(), gradient
