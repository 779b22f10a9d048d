"""How a box of inputs goes through a layer: centre and radius in, centre and radius out (float64)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.core.errors import NotApplicable


class Box(NamedTuple):
    """All inputs between `low` and `high`, (N, ...)."""

    low: Tensor
    high: Tensor


def layers_of(net: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested nn.Sequential in order. Raises NotApplicable for a layer that has no bound here."""
    if isinstance(net, nn.Sequential):
        for part in net:
            yield from layers_of(part)
    elif type(net) in _KNOWN:  # A subclass may compute something else: an int8 layer rounds its input.
        yield net
    else:
        raise NotApplicable(
            "Interval bounds know feed-forward nets (nn.Sequential of convolutions, dense layers, pooling and "
            f"monotone activations); this one holds a {type(net).__name__}."
        )


def through(layer: nn.Module, box: Box) -> Box:
    """The smallest box around the image of `box`, for one layer."""
    if isinstance(layer, _MONOTONE):
        return Box(layer(box.low), layer(box.high))
    return linear(lambda x: _affine(layer, x, torch.abs), lambda x: _affine(layer, x, None), box)


def linear(spread: Callable[[Tensor], Tensor], apply: Callable[[Tensor], Tensor], box: Box) -> Box:
    """An affine map: `apply` moves the centre, `spread` (absolute weights, no bias) the radius."""
    centre, radius = apply((box.low + box.high) / 2), spread((box.high - box.low) / 2)
    return Box(centre - radius, centre + radius)


def _affine(layer: Any, x: Tensor, absolute: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The layer in float64; with `absolute`, on absolute weights and without bias."""
    weight, bias = _weights(layer)
    weight = absolute(weight) if absolute else weight
    bias = None if absolute or bias is None else bias
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    scaled = x * weight.view(1, -1, *(1,) * (x.ndim - 2))
    return scaled if bias is None else scaled + bias.view(1, -1, *(1,) * (x.ndim - 2))


def _weights(layer: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        if layer.running_mean is None or layer.running_var is None:
            raise NotApplicable("Interval bounds need batch norm with running statistics.")
        scale = (layer.running_var.double() + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight.double()
        shift = -layer.running_mean.double() * scale
        return scale, shift if layer.bias is None else shift + layer.bias.double()
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise NotApplicable("Interval bounds know convolutions with plain zero padding.")
    return layer.weight.double(), None if layer.bias is None else layer.bias.double()


_MONOTONE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.ELU,
    nn.Softplus,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
)
"""Layers that never fall when their input rises (in eval mode): the ends of a box go through as they are."""
_KNOWN = (*_MONOTONE, nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
