"""Guided backpropagation, on a copy whose ReLUs can all be hooked."""

from __future__ import annotations

from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.captum_guard import in_leaf_batches
from audit.explanation.fx_rewrite import swapped_net, with_module_activations
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1412.6806", needs="gradients", signed=True, wraps="captum")
def guided_backprop(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Attribution:
    """The gradient with negative parts dropped at every ReLU on the way back: sharp, and largely blind to the class.

    Raises NotApplicable without a ReLU (it would be the plain gradient). Units: output a pixel range.
    """
    from captum.attr import GuidedBackprop

    net = with_module_activations(model.net)
    if not any(isinstance(layer, nn.ReLU) for layer in net.modules()):
        raise NotApplicable("The model has no ReLU, where guided backpropagation differs from the gradient.")
    method = GuidedBackprop(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part])  # type: ignore[no-any-return]

    with swapped_net(model, net):
        return Attribution(in_leaf_batches(model, images, one))
