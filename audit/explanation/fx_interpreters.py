"""Running a traced net node by node: with everything seen kept, or with activations replaced by their chords."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.core.types import Images, Labels
from audit.explanation.fx_rewrite import ACTIVATIONS
from audit.models.outputs import to_logits
from audit.models.under_test import ModelUnderTest

_FLAT = 1e-6
"""A difference of inputs below which the chord's slope is the derivative."""


class ActivationRecorder(fx.Interpreter):
    """Runs the net and keeps what every node gave."""

    def __init__(self, net: fx.GraphModule) -> None:
        super().__init__(net)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, node: fx.Node) -> Any:
        """The node's value, kept in `values`."""
        self.values[node] = super().run_node(node)
        return self.values[node]


class RescaleRule(fx.Interpreter):
    """Runs the net with each activation and max-pool as the linear map that joins reference and input.

    Outputs are unchanged; gradients are DeepLIFT's multipliers (the rescale rule). No hook is set anywhere.
    """

    def __init__(self, net: fx.GraphModule, reference: dict[fx.Node, Any]) -> None:
        super().__init__(net)
        self.reference = reference

    def run_node(self, node: fx.Node) -> Any:
        """The node's value, linear in its input where the net's own is not."""
        layer = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (*ACTIVATIONS, nn.MaxPool2d)):
            (source,) = node.all_input_nodes
            features, before = self.env[source], self.reference[source]
            return (
                _pooled(layer, features, before) if isinstance(layer, nn.MaxPool2d) else _chord(layer, features, before)
            )
        return super().run_node(node)


def normalised(model: ModelUnderTest, images: Images) -> Tensor:
    """What the net itself is given for `images`."""
    return (images - model.module.mean) / model.module.std


def target_logits(model: ModelUnderTest, outputs: Tensor, targets: Labels) -> Tensor:
    """Each row's target logit, counted as so many examples forwarded, and back-propagated if it comes to that."""
    model.module.meter.forwards += len(outputs)
    logits = to_logits(outputs, model.output_kind)
    if logits.requires_grad:
        logits.register_hook(model.module._count_backward)  # type: ignore[no-untyped-call]
    return logits.gather(1, targets[:, None]).squeeze(1)


def _chord(layer: nn.Module, features: Tensor, before: Tensor) -> Tensor:
    """The activation as a line through both points; where they meet, its tangent."""
    own: Tensor = layer(features)
    with torch.no_grad():
        rise, run = own - layer(before), features - before
        apart = run.abs() > _FLAT
        slope = rise / run.where(apart, 1)
        offset = own - slope * features
    return torch.where(apart, slope * features + offset, own)


def _pooled(layer: nn.MaxPool2d, features: Tensor, before: Tensor) -> Tensor:
    """The window's change shared by the winner now and the winner then: the first gets what rises above the reference's
    maximum, the second what falls below it."""
    with torch.no_grad():
        now, here = _winners(layer, features)
        then, there = _winners(layer, before)
        difference = (features - before).flatten(2)
        rise = _quotient((now - then).clamp(min=0), difference.gather(2, here.flatten(2)).view_as(now))
        fall = _quotient((now - then).clamp(max=0), difference.gather(2, there.flatten(2)).view_as(now))
    flat = features.flatten(2)
    change = rise * flat.gather(2, here.flatten(2)).view_as(now) + fall * flat.gather(2, there.flatten(2)).view_as(now)
    return change + (now - change).detach()


def _winners(layer: nn.MaxPool2d, features: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = functional.max_pool2d(
        features, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
    )
    return found


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    return above / below.where(above != 0, 1)
