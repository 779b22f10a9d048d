"""Guided backpropagation, on a copy whose ReLUs can all be hooked."""

from __future__ import annotations

from torch import Tensor, fx, nn

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.gradients import in_leaf_batches
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.traced_net import swapped_net, with_module_activations
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1412.6806",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(1, 1),
    wraps="captum",
)
def guided_backprop(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Attribution:
    """The gradient with negative parts dropped at every ReLU on the way back: sharp, and largely blind to the class.

    The map is (N, C, H, W), in units of the output a pixel range.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.

    Raises:
        NotApplicable: The model has no ReLU (it would be the plain gradient), or cannot be traced.
    """
    from captum.attr import GuidedBackprop

    net = with_module_activations(model.net)
    if not any(isinstance(layer, nn.ReLU) for layer in net.modules()):
        raise NotApplicable(
            note("no_relu", "The model has no ReLU, where guided backpropagation differs from the gradient.")
        )
    if _has_constant_rectifiers(net):
        net.requires_grad_(True)  # the library hooks the gradient of every ReLU, and those would have none
    method = GuidedBackprop(Scored(model, spec.output))

    def guided_gradient(leaf: Images, rows: slice) -> Tensor:
        return method.attribute(leaf, target=spec.targets[rows])  # type: ignore[no-any-return]

    with swapped_net(model, net):
        return Attribution(in_leaf_batches(model, images, guided_gradient))


def _has_constant_rectifiers(net: fx.GraphModule) -> bool:
    """Whether a ReLU works on weights alone, as in the position bias of Swin V2."""
    dependent: set[fx.Node] = set()
    for node in net.graph.nodes:
        if node.op == "placeholder" or any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    return any(
        node.op == "call_module" and isinstance(net.get_submodule(str(node.target)), nn.ReLU) and node not in dependent
        for node in net.graph.nodes
    )
