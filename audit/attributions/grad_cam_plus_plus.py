"""Grad-CAM++: pixel by pixel weights, for several instances of a class."""

from __future__ import annotations

from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.activation_map import activation_map
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1710.11063", needs="spatial layer", signed=False, version="2")
def grad_cam_plus_plus(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, layer: str | None = None
) -> Attribution:
    """Channels weighted by their positive gradients, each place by the paper's closed form; positive part, enlarged.

    `layer` names another than the last convolution. (N, 1, H, W), never negative; all zero: "no positive evidence".
    """
    return activation_map(model, images, explained, layer, grad_cam_pp_weights)


def grad_cam_pp_weights(activations: Tensor, gradients: Tensor) -> Tensor:
    """The paper's equations 19 and 20, for an output taken through exp, whose common factor drops out.

    The paper's activations are rectified; a layer read before its ReLU is, too: negative sums would turn the weights.
    """
    activations = activations.relu()
    squared, cubed = gradients**2, gradients**3
    below = 2 * squared + activations.sum((2, 3), keepdim=True) * cubed
    alpha = squared / below.where(below != 0, 1)
    weights = (alpha * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1, keepdim=True)
