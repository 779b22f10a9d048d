"""Guided backpropagation, on a copy whose ReLUs can all be hooked."""

from __future__ import annotations

from torch import Tensor, fx, nn

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.faithful_copy import traced_copy
from audit.explanation.gradients import in_leaf_batches
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.traced_net import swapped_net
from audit.masking.outputs import Scored
from audit.models.under_test import ModelUnderTest

_OTHER_RECTIFIERS = (nn.ReLU6, nn.Hardtanh, nn.Threshold)
"""Layers that drop negative values too, at which the library drops no gradient."""
_COMPARISONS = {"gt", "ge", "lt", "le", "where", "maximum", "minimum", "heaviside", "sign"}
"""Calls that a rectifier may be made of, out of reach of a hook."""


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

    net = traced_copy(model, images)
    _check_rectifiers(net)
    if _has_constant_rectifiers(net):
        net.requires_grad_(True)  # the library hooks the gradient of every ReLU, and those would have none
    method = GuidedBackprop(Scored(model, spec.output))

    def guided_gradient(leaf: Images, rows: slice) -> Tensor:
        return method.attribute(leaf, target=spec.targets[rows])  # type: ignore[no-any-return]

    with swapped_net(model, net):
        return Attribution(in_leaf_batches(model, images, guided_gradient))


def _check_rectifiers(net: fx.GraphModule) -> None:
    """Refuse a net without a ReLU, and one of whose rectifiers only some would be guided."""
    layers = {str(node.target): net.get_submodule(str(node.target)) for node in net.graph.nodes if _calls_layer(node)}
    if not any(isinstance(layer, nn.ReLU) for layer in layers.values()):
        raise NotApplicable(
            note("no_relu", "The model has no ReLU, where guided backpropagation differs from the gradient.")
        )
    half = [name for name, layer in layers.items() if isinstance(layer, _OTHER_RECTIFIERS)]
    calls = [node.name for node in net.graph.nodes if not _calls_layer(node) and _called(node) in _COMPARISONS]
    if half or calls:
        raise NotApplicable(
            note(
                "half_guided",
                "'{call}' drops values too, and guided backpropagation has no rule for it: some of the gradient would "
                "be guided and some not.",
                call=[*half, *calls][0],
            )
        )


def _calls_layer(node: fx.Node) -> bool:
    return node.op == "call_module"


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


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
