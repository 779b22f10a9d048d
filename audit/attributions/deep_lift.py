"""DeepLIFT and DeepSHAP without hooks, on a traced copy of the net, complete also across max-pooling.

Not captum's: its max-pool rule loses what the reference's winners held, up to half of the difference on a baseline
that is not constant (measured with captum 0.9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.evidence import Better
from audit.core.note import note
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.captum_guard import uncounted
from audit.explanation.faithful_copy import traced_copy
from audit.explanation.scores_alone import with_scores_alone
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.traced_net import (
    ACTIVATIONS,
    ActivationRecorder,
    check_supported_layers,
    normalised,
    target_logits,
)
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_LINEAR = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.BatchNorm1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.ZeroPad2d,
    nn.ConvTranspose2d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.Upsample,
    nn.Unflatten,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)
"""Layers that are linear in eval mode, where the gradient is the rule."""
MAX_MISSED = 0.05
"""More than this share of the outputs' difference unaccounted for, and the map is refused."""
_FLAT = 1e-6
"""A difference of inputs below which the chord's slope is the derivative."""
_QUALITY: Mapping[str, tuple[str, Better]] = {"completeness_residual": ("output", "lower")}


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """A forward of each reference, and a forward and a backward of the image against it."""
    count = max(1, settings["references"])
    return PassCount(2 * count, count)


@attribution(
    reference="arXiv:1704.02685",
    needs="gradients",
    signed=True,
    baseline=0.0,
    passes=_passes,
    quality_units=_QUALITY,
)
def deep_lift(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Attribution:
    """Each activation's finite slope between image and baseline in place of its derivative (the rescale rule).

    Attributions sum to output(image) - output(baseline). The map is (N, C, H, W), in units of the output. Quality:
    `completeness_residual`, by how much they miss it.

    Args:
        model: The model to explain, one that gives logits.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain: a logit.

    Raises:
        NotApplicable: A layer has no rule (it is named), the net cannot be traced, or the output is no logit.
    """
    return _mean_over_references(model, images, spec, spec.baseline[:, None])


@attribution(
    reference="arXiv:1705.07874",
    needs="gradients",
    signed=True,
    baseline=0.0,
    references=True,
    passes=_passes,
    quality_units=_QUALITY,
)
def deep_shap(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Attribution:
    """DeepLIFT averaged over `ExplanationSpec.references`: approximate Shapley values of pixels against a background.

    Without references the baseline stands alone and the map is DeepLIFT's. Quality and units as there.

    Args:
        model: The model to explain, one that gives logits.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain: a logit.

    Raises:
        NotApplicable: A layer has no rule (it is named), the net cannot be traced, or the output is no logit.
    """
    if spec.references is None:
        return _mean_over_references(model, images, spec, spec.baseline[:, None])
    return _mean_over_references(model, images, spec, spec.references[None].expand(len(images), -1, -1, -1, -1))


def _mean_over_references(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, references: Tensor
) -> Attribution:
    """The mean map over `references` (N, B, C, H, W)."""
    if spec.output != "logit" or model.output_kind not in ("logits", "one logit"):
        raise NotApplicable(
            note(
                "no_softmax_rule",
                "DeepLIFT has no rule for the softmax between logits and probabilities; explain the logit of a model "
                "that gives logits.",
            )
        )
    net = with_scores_alone(traced_copy(model, images), model.reader.entry)
    check_supported_layers(net, (*ACTIVATIONS, nn.MaxPool2d, *_LINEAR), "DeepLIFT")
    total, gap = torch.zeros_like(images), torch.zeros(len(images), device=images.device)
    for number in range(references.shape[1]):
        maps, gaps = _lift(model, net, images, references[:, number], spec)
        total, gap = total + maps, gap + gaps
    count = references.shape[1]
    residual = (total.flatten(1).sum(1) - gap).abs() / count
    _require_complete(model, images, residual, gap / count)
    return Attribution(total / count, {"completeness_residual": residual})


def _require_complete(model: ModelUnderTest, images: Images, residual: Tensor, gap: Tensor) -> None:
    """Refuse maps that miss a good part of the difference that they divide."""
    with uncounted(model):
        largest = model.logits(images).abs().amax(1)
    missed = residual / torch.maximum(gap.abs(), 0.1 * largest).clamp(min=1e-6)
    if float(missed.max()) > MAX_MISSED:
        raise NotApplicable(
            note(
                "deep_lift_lost",
                "DeepLIFT's map of this model misses up to {lost} of the difference of outputs that it divides, so it "
                "would not explain it.",
                lost=f"{float(missed.max()):.0%}",
            )
        )


def _lift(
    model: ModelUnderTest, net: fx.GraphModule, images: Images, references: Images, spec: ExplanationSpec
) -> tuple[Images, Tensor]:
    """Maps against one reference each, and the differences of output they should sum to."""

    def batch(rows: slice) -> tuple[Images, Tensor]:
        targets = spec.targets[rows]
        reference = ActivationRecorder(net)
        with torch.no_grad():
            before = target_logits(model, reference.run(normalised(model, references[rows])), targets)
        with torch.enable_grad():
            leaf = images[rows].detach().clone().requires_grad_(True)
            after = target_logits(model, RescaleRule(net, reference.values).run(normalised(model, leaf)), targets)
            (multipliers,) = torch.autograd.grad(after.sum(), leaf)
        return multipliers * (images[rows] - references[rows]), after.detach() - before

    maps, gaps = (torch.cat(column) for column in zip(*in_batches(len(images), model.layout, batch), strict=True))
    return maps, gaps


class RescaleRule(fx.Interpreter):
    """Runs the net with each activation and max-pool as the linear map that joins reference and input.

    Outputs are unchanged; gradients are DeepLIFT's multipliers: the rescale rule of arXiv:1704.02685, in which an
    activation's multiplier is the change of its output over the change of its input. No hook is set anywhere.
    """

    def __init__(self, net: fx.GraphModule, reference: dict[fx.Node, Any]) -> None:
        """The rule against one reference.

        Args:
            net: The traced net.
            reference: Every node's output on the reference, see `ActivationRecorder`.
        """
        super().__init__(net)
        self.reference = reference

    def run_node(self, node: fx.Node) -> Any:
        """The node's output, linear in its input where the net's own is not.

        Args:
            node: A node of the net's graph.
        """
        layer = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (*ACTIVATIONS, nn.MaxPool2d)):
            (source,) = node.all_input_nodes
            features, before = self.env[source], self.reference[source]
            return (
                _pooled(layer, features, before) if isinstance(layer, nn.MaxPool2d) else _chord(layer, features, before)
            )
        return super().run_node(node)


def _chord(layer: nn.Module, features: Tensor, before: Tensor) -> Tensor:
    """The activation as a line through both points; where they meet, its tangent."""
    outputs: Tensor = layer(features)
    with torch.no_grad():
        rise, run = outputs - layer(before), features - before
        differs = run.abs() > _FLAT
        slope = rise / run.where(differs, 1)
        offset = outputs - slope * features
    return torch.where(differs, slope * features + offset, outputs)


def _pooled(layer: nn.MaxPool2d, features: Tensor, before: Tensor) -> Tensor:
    """The window's change shared by the winner now and the winner then: the first gets what rises above the reference's
    maximum, the second what falls below it."""
    with torch.no_grad():
        maxima, index = _maxima(layer, features)
        reference_maxima, reference_index = _maxima(layer, before)
        index, reference_index = index.flatten(2), reference_index.flatten(2)
        difference = (features - before).flatten(2)
        growth = maxima - reference_maxima
        rise = _quotient(growth.clamp(min=0), difference.gather(2, index).view_as(maxima))
        fall = _quotient(growth.clamp(max=0), difference.gather(2, reference_index).view_as(maxima))
    flat = features.flatten(2)
    change = rise * flat.gather(2, index).view_as(maxima) + fall * flat.gather(2, reference_index).view_as(maxima)
    return change + (maxima - change).detach()


def _maxima(layer: nn.MaxPool2d, features: Tensor) -> tuple[Tensor, Tensor]:
    values_and_index: tuple[Tensor, Tensor] = functional.max_pool2d(
        features, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
    )
    return values_and_index


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    return above / below.where(above != 0, 1)
