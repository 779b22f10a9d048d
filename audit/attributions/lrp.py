"""LRP: relevance divided layer by layer, and refused where it is not conserved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.faithful_copy import check_same_outputs
from audit.explanation.scores_alone import with_scores_alone
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.traced_net import (
    ACTIVATIONS,
    ActivationRecorder,
    check_supported_layers,
    normalised,
    target_logits,
    with_module_activations,
)
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

MAX_CONSERVATION_ERROR = 0.01
"""More than this share of the logit unaccounted for, and the map is refused."""
_PASSING = (*ACTIVATIONS, nn.Dropout, nn.Dropout2d, nn.Identity)
"""Relevance goes through these unchanged."""
_ROUTING = (nn.MaxPool2d,)
"""The winner takes it."""
_WEIGHTED = (nn.Conv2d, nn.Linear)
_MIXING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.ZeroPad2d)
_STABLE = 1e-7
"""The epsilon of the epsilon rule, which keeps denominators from zero."""


@attribution(
    reference="doi:10.1371/journal.pone.0130140",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(1, 1),
    quality_units={"conservation_error": ("share", "lower"), "bias_share": ("share", "neither")},
)
def lrp(model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, gamma: float = 0.25) -> Attribution:
    """The logit divided backwards among what made it up: epsilon rule for dense layers, `gamma` for convolutions.

    Layer-wise relevance propagation (Bach et al. 2015). Pixels and biases together hold the whole logit. Batch
    normalisation is folded into its convolution, on a copy. The map is (N, C, H, W), in units of the output. Quality:
    `conservation_error`, the share of the logit that they miss, and `bias_share`, what the biases hold.

    Args:
        model: The model to explain, one that gives logits.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain: a logit.
        gamma: How much the gamma rule favours positive weights of convolutions; 0 is the epsilon rule.

    Raises:
        NotApplicable: A layer has no rule (it is named), the output is no logit, or relevance is not conserved.
    """
    from torch.fx.experimental.optimization import fuse

    if spec.output != "logit" or model.output_kind != "logits":
        raise NotApplicable(note("lrp_logit", "LRP divides a logit; explain the logit of a model that gives logits."))
    net = with_module_activations(fuse(with_module_activations(model.net)))
    check_same_outputs(model, net, images)
    net = with_scores_alone(net, model.reader.entry)
    check_supported_layers(net, (*_PASSING, *_ROUTING, *_WEIGHTED, *_MIXING), "LRP")

    def propagate(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        targets = spec.targets[rows]
        target_mask = torch.zeros(len(targets), len(model.classes), device=images.device)
        target_mask.scatter_(1, targets[:, None], 1.0)
        logits: list[Tensor] = []

        def start(outputs: Tensor) -> Tensor:
            logits.append(target_logits(model, outputs, targets))
            return outputs * target_mask.reshape(outputs.shape)

        relevance = propagate_relevance(net, normalised(model, images[rows]), start, gamma)
        model.meter.backwards += len(targets)
        return relevance.at_input, relevance.in_biases, logits[0]

    maps, biases, logits = (torch.cat(c) for c in zip(*in_batches(len(images), model.layout, propagate), strict=True))
    error = (maps.flatten(1).sum(1) + biases - logits).abs() / logits.abs().clamp(min=1e-6)
    worst = float(error.nan_to_num(nan=math.inf).max())  # relevance that overflows is infinite or no number
    if worst > MAX_CONSERVATION_ERROR:
        raise NotApplicable(
            note(
                "lrp_lost",
                "LRP does not conserve relevance on this model: up to {lost} of the logit is unaccounted for, so its "
                "map would not explain it.",
                lost=f"{worst:.0%}" if math.isfinite(worst) else "∞",
            )
        )
    return Attribution(maps, {"conservation_error": error, "bias_share": biases / logits})


@dataclass(frozen=True)
class Relevance:
    """The relevance of N images.

    Attributes:
        at_input: What the pixels hold, (N, C, H, W).
        in_biases: What the layers' biases hold, (N,).
    """

    at_input: Tensor
    in_biases: Tensor


def propagate_relevance(
    net: fx.GraphModule, inputs: Tensor, start: Callable[[Tensor], Tensor], gamma: float
) -> Relevance:
    """Carry relevance from the logits back to the inputs: epsilon rule for dense layers, gamma for convolutions.

    Every node divides its relevance in proportion to what each input contributed; biases keep their part.

    Args:
        net: The traced net, of layers with a rule.
        inputs: What the net is given, float32 (N, C, H, W).
        start: `(logits) -> relevance`, (N, classes) each.
        gamma: How much the gamma rule favours positive weights; 0 is the epsilon rule.
    """
    recorder = ActivationRecorder(net)
    with torch.no_grad():
        logits = recorder.run(inputs)
    relevance: dict[fx.Node, Tensor] = {}
    in_biases = torch.zeros(len(inputs), device=inputs.device)
    for node in reversed(list(net.graph.nodes)):
        if node.op == "output":
            relevance[node.args[0]] = start(logits)
            continue
        if node.op == "placeholder" or node not in relevance:
            continue
        shares, in_bias = _divide(net, node, recorder.values, relevance.pop(node), gamma)
        in_biases = in_biases + in_bias
        for source, share in shares.items():
            relevance[source] = relevance[source] + share if source in relevance else share
    first = next(node for node in net.graph.nodes if node.op == "placeholder")
    return Relevance(relevance.get(first, torch.zeros_like(inputs)), in_biases)


def _divide(
    net: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any], relevance: Tensor, gamma: float
) -> tuple[dict[fx.Node, Tensor], Tensor | float]:
    """The share of each input of `node`, and what its bias keeps, (N,): R_i = sum_j z_ij / z_j R_j."""
    if node.op != "call_module":
        return _in_proportion(node, values, relevance), 0.0
    layer = net.get_submodule(str(node.target))
    (source,) = node.all_input_nodes
    if isinstance(layer, _PASSING):
        return {source: relevance}, 0.0
    with torch.enable_grad():
        features = values[source].detach().requires_grad_(True)
        if isinstance(layer, _WEIGHTED):
            share, in_bias = _weighted(layer, features, relevance, gamma if isinstance(layer, nn.Conv2d) else 0.0)
            return {source: share}, in_bias
        outputs = layer(features)
        if isinstance(layer, _ROUTING):
            return {source: torch.autograd.grad(outputs, features, relevance)[0]}, 0.0
        (gradient,) = torch.autograd.grad(outputs, features, relevance / _stable(outputs.detach()))
    return {source: features.detach() * gradient}, 0.0


def _weighted(layer: nn.Module, features: Tensor, relevance: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The same for a dense layer or a convolution, whose weights w become w + gamma max(w, 0)."""
    weight, bias = _raised(layer.weight, gamma), _raised(layer.bias, gamma)
    if isinstance(layer, nn.Conv2d):
        outputs = layer._conv_forward(features, weight, bias)
    else:
        outputs = functional.linear(features, weight, bias)
    flow = relevance / _stable(outputs.detach())
    (gradient,) = torch.autograd.grad(outputs, features, flow)
    if bias is None:
        in_bias = torch.zeros(len(features), device=features.device)
    else:
        shape = (1, -1, *([1] * (flow.ndim - 2))) if isinstance(layer, nn.Conv2d) else (-1,)
        in_bias = (flow * bias.view(shape)).flatten(1).sum(1)
    return features.detach() * gradient, in_bias


def _in_proportion(node: fx.Node, values: dict[fx.Node, Any], relevance: Tensor) -> dict[fx.Node, Tensor]:
    """Sums, means, concatenations and reshapes: each input by its contribution."""
    leaves: dict[fx.Node, Tensor] = {}

    def leaf(source: fx.Node) -> Any:
        value = values[source]
        if isinstance(value, Tensor) and value.is_floating_point():
            return leaves.setdefault(source, value.detach().requires_grad_(True))
        return value

    with torch.enable_grad():
        args, kwargs = fx.map_arg(node.args, leaf), fx.map_arg(node.kwargs, leaf)
        if node.op == "call_method":
            outputs = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            outputs = node.target(*args, **kwargs)  # type: ignore[operator]
        flow = relevance / _stable(outputs.detach())
        gradients = torch.autograd.grad(outputs, list(leaves.values()), flow, allow_unused=True)
    return {
        source: value.detach() * gradient
        for (source, value), gradient in zip(leaves.items(), gradients, strict=True)
        if gradient is not None  # of `view_as` the second gives its shape alone
    }


def _raised(parameter: Any, gamma: float) -> Any:
    return None if parameter is None else parameter.detach() + gamma * parameter.detach().clamp(min=0)


def _stable(outputs: Tensor) -> Tensor:
    return outputs + _STABLE * torch.where(outputs >= 0, 1.0, -1.0)
