"""Layer-wise relevance, carried backwards through a traced net node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.explanation.fx_interpreters import ActivationRecorder
from audit.explanation.fx_rewrite import ACTIVATIONS

PASSING = (*ACTIVATIONS, nn.Dropout, nn.Dropout2d, nn.Identity)
"""Relevance goes through these unchanged."""
ROUTING = (nn.MaxPool2d,)
"""The winner takes it."""
WEIGHTED = (nn.Conv2d, nn.Linear)
MIXING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.ZeroPad2d)
_STABLE = 1e-7


@dataclass(frozen=True)
class Relevance:
    """`at_input` (N, C, H, W); `in_biases` (N,), what the layers' biases hold."""

    at_input: Tensor
    in_biases: Tensor


def propagate_relevance(
    net: fx.GraphModule, inputs: Tensor, start: Callable[[Tensor], Tensor], gamma: float
) -> Relevance:
    """Carry `start(logits)` (N, classes) back to `inputs`: epsilon rule for dense layers, gamma for convolutions.

    Every node divides its relevance in proportion to what each input contributed; biases keep their part.
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
        shares, kept = _divide(net, node, recorder.values, relevance.pop(node), gamma)
        in_biases = in_biases + kept
        for source, share in shares.items():
            relevance[source] = relevance[source] + share if source in relevance else share
    first = next(node for node in net.graph.nodes if node.op == "placeholder")
    return Relevance(relevance.get(first, torch.zeros_like(inputs)), in_biases)


def _divide(
    net: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any], relevance: Tensor, gamma: float
) -> tuple[dict[fx.Node, Tensor], Tensor | float]:
    """The share of each input of `node`, and what its bias keeps, (N,)."""
    if node.op != "call_module":
        return _in_proportion(node, values, relevance), 0.0
    layer = net.get_submodule(str(node.target))
    (source,) = node.all_input_nodes
    if isinstance(layer, PASSING):
        return {source: relevance}, 0.0
    with torch.enable_grad():
        features = values[source].detach().requires_grad_(True)
        if isinstance(layer, WEIGHTED):
            share, kept = _weighted(layer, features, relevance, gamma if isinstance(layer, nn.Conv2d) else 0.0)
            return {source: share}, kept
        outputs = layer(features)
        if isinstance(layer, ROUTING):
            return {source: torch.autograd.grad(outputs, features, relevance)[0]}, 0.0
        (gradient,) = torch.autograd.grad(outputs, features, relevance / _stable(outputs.detach()))
    return {source: features.detach() * gradient}, 0.0


def _weighted(layer: nn.Module, features: Tensor, relevance: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    weight, bias = _raised(layer.weight, gamma), _raised(layer.bias, gamma)
    if isinstance(layer, nn.Conv2d):
        outputs = layer._conv_forward(features, weight, bias)
    else:
        outputs = functional.linear(features, weight, bias)
    flow = relevance / _stable(outputs.detach())
    (gradient,) = torch.autograd.grad(outputs, features, flow)
    if bias is None:
        kept = torch.zeros(len(features), device=features.device)
    else:
        shape = (1, -1, *([1] * (flow.ndim - 2))) if isinstance(layer, nn.Conv2d) else (-1,)
        kept = (flow * bias.view(shape)).flatten(1).sum(1)
    return features.detach() * gradient, kept


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
        gradients = torch.autograd.grad(outputs, list(leaves.values()), flow)
    return {
        source: value.detach() * gradient for (source, value), gradient in zip(leaves.items(), gradients, strict=True)
    }


def _raised(parameter: Any, gamma: float) -> Any:
    return None if parameter is None else parameter.detach() + gamma * parameter.detach().clamp(min=0)


def _stable(outputs: Tensor) -> Tensor:
    return outputs + _STABLE * torch.where(outputs >= 0, 1.0, -1.0)
