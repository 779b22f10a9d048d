"""Layer-CAM: activations times their own positive gradients, sharp enough for early layers."""

from __future__ import annotations

from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.activation_map import activation_map
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(reference="doi:10.1109/TIP.2021.3089943", needs="spatial layer", signed=False)
def layer_cam(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, layer: str | None = None
) -> Attribution:
    """The sum over channels of activation x positive gradient at each place; positive part, enlarged.

    `layer` names another than the last convolution. (N, 1, H, W), never negative; all zero: "no positive evidence".
    """
    return activation_map(model, images, explained, layer, layer_cam_weights)


def layer_cam_weights(activations: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al. 2021, equation 6."""
    return (gradients.relu() * activations).sum(1, keepdim=True)
