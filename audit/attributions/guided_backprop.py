"""Guided backpropagation, on a copy whose ReLUs can all be hooked."""

from __future__ import annotations

from torch import Tensor, nn

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import by_batches
from audit.attributions.preflight import rewritten, running
from audit.errors import NotApplicable
from audit.models.under_test import ModelUnderTest
from audit.passes.scores import Scored
from audit.registry import attribution
from audit.types import Images


@attribution(reference="arXiv:1412.6806", needs="gradients", signed=True, wraps="captum")
def guided_backprop(model: ModelUnderTest, images: Images, explained: Explained) -> Explanation:
    """The gradient with negative parts dropped at every ReLU on the way back: sharp, and largely blind to the class.

    Raises NotApplicable without a ReLU (it would be the plain gradient). Units: output a pixel range.
    """
    from captum.attr import GuidedBackprop

    net = rewritten(model.net)
    if not any(isinstance(layer, nn.ReLU) for layer in net.modules()):
        raise NotApplicable("The model has no ReLU, where guided backpropagation differs from the gradient.")
    method = GuidedBackprop(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(leaf, target=explained.targets[part])  # type: ignore[no-any-return]

    with running(model, net):
        return Explanation(by_batches(model, images, one))
