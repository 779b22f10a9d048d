"""Interval bounds: an eps for each image below which no linf perturbation can break a small feed-forward net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import metric
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

SLACK = 1e-4
"""Share of the largest logit that a margin must exceed: what float32 may add to the float64 bound."""


class Box(NamedTuple):
    """All inputs between two ends.

    Attributes:
        low: Float64 (N, ...).
        high: Float64 (N, ...).
    """

    low: Tensor
    high: Tensor


@metric(reference="arXiv:1810.12715", unit="pixel range", better="higher")
def interval_bounds(model: ModelUnderTest, batch: Batch, *, largest: float = 1.0, bisections: int = 14) -> Tensor:
    """The largest eps up to `largest` at which each image is proved unbroken, float64 (N,); 0 where none is.

    Boxes go through the net layer by layer in float64, the last dense layer joined with the differences of the
    logits (Gowal et al. 2018). A lower bound on the true distance, and a loose one on nets not trained for it.

    Args:
        model: A chain of known layers that gives logits.
        batch: N images with labels and, where it has one, a goal.
        largest: The largest eps to try, linf in the pixel range.
        bisections: Halvings of the interval in which eps lies.

    Raises:
        NotApplicable: The net holds an unknown layer, or does not give logits.
    """
    if model.output_kind != "logits":
        raise NotApplicable(note("interval_logits", "Interval bounds need a model whose outputs are logits."))
    layers = tuple(layers_of(model.net))
    images = model.check_images(batch.images)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    predicted = model.predictions(images)
    low = torch.zeros(len(images), dtype=torch.float64, device=model.device)
    high = torch.full_like(low, largest)
    for step in range(bisections + 1):
        eps = high if step == 0 else (low + high) / 2
        proved = proves(model, layers, images, eps, predicted, goal)
        low, high = torch.where(proved, eps, low), torch.where(proved, high, eps)
    return low


def proves(
    model: ModelUnderTest, layers: Sequence[nn.Module], images: Tensor, eps: Tensor, predicted: Tensor, goal: Tensor
) -> Tensor:
    """Whether within eps every class of the goal is proved to stay below the predicted one, bool (N,).

    Args:
        model: The model, for its normalisation.
        layers: The layers of its net in order, see `layers_of`.
        images: Float32 (N, C, H, W) in [0, 1].
        eps: Float64 (N,), linf in the pixel range.
        predicted: int64 (N,).
        goal: Classes that count as adversarial, bool (N, classes).
    """
    exact, size = images.double(), eps.view(-1, 1, 1, 1)
    box = _normalised(model, Box((exact - size).clamp(0, 1), (exact + size).clamp(0, 1)))
    *body, last = layers
    for layer in body:
        box = through(layer, box)
    below = _margins(last, box, predicted)
    scale = through(last, box)
    slack = SLACK * torch.maximum(scale.low.abs(), scale.high.abs()).amax(1, keepdim=True)
    safe = (below > slack) | ~goal
    return safe.all(1) & ~goal.gather(1, predicted[:, None])[:, 0]


def _margins(last: nn.Module, box: Box, predicted: Tensor) -> Tensor:
    """Lower bounds on logit[predicted] - logit[j] for each class j, (N, classes)."""
    if not isinstance(last, nn.Linear):
        ends = through(last, box)
        return ends.low.gather(1, predicted[:, None]) - ends.high
    weight = last.weight.double()
    difference = weight[predicted][:, None] - weight[None]
    bias = weight.new_zeros(len(weight)) if last.bias is None else last.bias.double()
    centre, radius = (box.low + box.high) / 2, (box.high - box.low) / 2
    moved = torch.einsum("nkd,nd->nk", difference, centre) + bias[predicted][:, None] - bias[None]
    return moved - torch.einsum("nkd,nd->nk", difference.abs(), radius)


def _normalised(model: ModelUnderTest, box: Box) -> Box:
    mean, std = model.module.mean.double(), model.module.std.double()
    return linear(lambda radius: radius / std, lambda centre: (centre - mean) / std, box)


def layers_of(net: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested nn.Sequential in order.

    Args:
        net: The net.

    Raises:
        NotApplicable: A layer has no bound here.
    """
    if isinstance(net, nn.Sequential):
        for child in net:
            yield from layers_of(child)
    elif type(net) in _KNOWN:  # A subclass may compute something else: an int8 layer rounds its input.
        yield net
    else:
        raise NotApplicable(
            note(
                "interval_nets",
                "Interval bounds know feed-forward nets (nn.Sequential of convolutions, dense layers, pooling and "
                "monotone activations); this one holds a {layer}.",
                layer=type(net).__name__,
            )
        )


def through(layer: nn.Module, box: Box) -> Box:
    """The smallest box around a layer's outputs.

    Args:
        layer: A layer that `layers_of` gave.
        box: Its inputs.
    """
    if isinstance(layer, _MONOTONE):
        return Box(layer(box.low), layer(box.high))
    return linear(lambda x: _affine(layer, x, torch.abs), lambda x: _affine(layer, x, None), box)


def linear(spread: Callable[[Tensor], Tensor], apply: Callable[[Tensor], Tensor], box: Box) -> Box:
    """The box around the outputs of an affine map: centre and radius go through on their own (arXiv:1810.12715).

    Args:
        spread: The map with absolute weights and without bias, for the radius.
        apply: The map itself, for the centre.
        box: Its inputs.
    """
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
            raise NotApplicable(note("interval_norm", "Interval bounds need batch norm with running statistics."))
        scale = (layer.running_var.double() + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight.double()
        shift = -layer.running_mean.double() * scale
        return scale, shift if layer.bias is None else shift + layer.bias.double()
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise NotApplicable(note("interval_padding", "Interval bounds know convolutions with plain zero padding."))
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
