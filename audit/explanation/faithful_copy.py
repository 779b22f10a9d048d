"""Traced copies that are held to answer as the net does."""

from __future__ import annotations

from torch import Tensor, fx, nn

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.types import Images
from audit.explanation.captum_guard import uncounted
from audit.explanation.traced_net import swapped_net, with_module_activations
from audit.models.under_test import ModelUnderTest

_SAME = 1e-3
"""Share of the largest output that a traced copy may differ by."""


def traced_copy(model: ModelUnderTest, images: Images) -> fx.GraphModule:
    """`with_module_activations` of the model's net, held to give the net's own outputs on the images.

    Args:
        model: The model, whose net stays as it is; a forward of the net and of the copy, not counted.
        images: Float32 (N, C, H, W) in [0, 1].

    Raises:
        NotApplicable: The net cannot be traced, or the copy answers otherwise.
    """
    copied = with_module_activations(model.net)
    check_same_outputs(model, copied, images)
    return copied


def check_same_outputs(model: ModelUnderTest, copied: nn.Module, images: Images) -> None:
    """Refuse a copy that does not give the net's own outputs, unless the net's own differ from one time to the next.

    Args:
        model: The model whose net was copied.
        copied: The copy.
        images: Float32 (N, C, H, W) in [0, 1].

    Raises:
        NotApplicable: The copy answers otherwise.
    """

    def outputs(net: nn.Module) -> Tensor:
        with swapped_net(model, net):
            return model.logits(images)

    with uncounted(model):
        own = outputs(model.net)
        allowed = _SAME * float(own.abs().max())
        if float((outputs(copied) - own).abs().max()) > allowed >= float((outputs(model.net) - own).abs().max()):
            raise NotApplicable(
                note(
                    "traced_otherwise",
                    "A copy of {net} whose activations can be read answers otherwise than the net (its forward writes "
                    "into a tensor that it reads again through a view), so a map made on it would explain another net.",
                    net=type(model.net).__name__,
                )
            )
