"""Grad-CAM: the last convolution's channels, weighted by their mean gradient."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.captum_guard import in_leaf_batches, restored
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.target_layer import spatial_layer
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1610.02391", needs="spatial layer", signed=False, wraps="captum")
def grad_cam(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, layer: str | None = None
) -> Attribution:
    """Channels of the last convolution, weighted by their mean gradient, the positive part, enlarged bilinearly.

    `layer` names another layer. (N, 1, H, W), never negative; all zero means "no positive evidence". Raises
    NotApplicable where the model has no spatial layer.
    """
    from captum.attr import LayerGradCam

    name, module = spatial_layer(model, images[:1], layer)
    method = LayerGradCam(Scored(model, explained.output), module)

    def one(leaf: Images, part: slice) -> Tensor:
        coarse = method.attribute(leaf, target=explained.targets[part], relu_attributions=True)
        return functional.interpolate(coarse, size=leaf.shape[2:], mode="bilinear", align_corners=False)

    with restored(model):
        maps = in_leaf_batches(model, images, one)
    return Attribution(maps, {"peak": maps.flatten(1).amax(1)}, {"layer": name})
