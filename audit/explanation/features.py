"""Features before the head: what the last layer makes the logits of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from audit.core.types import Images, Logits
from audit.explanation.once_per_model import once_per_model
from audit.models.batching import in_batches
from audit.models.precision import ieee_float32
from audit.models.under_test import ModelUnderTest

_HEADS = (nn.Linear, nn.Conv2d, nn.Bilinear)


class FeaturesAndLogits(NamedTuple):
    """What one forward gives.

    Attributes:
        features: Float32 (N, D).
        logits: Float32 (N, classes).
    """

    features: Tensor
    logits: Logits


def penultimate_features(model: ModelUnderTest, images: Images) -> Tensor:
    """What the last layer of a net is given; the logits, where no such layer can be watched. One forward an image.

    Args:
        model: The model.
        images: Float (N, C, H, W) in [0, 1].

    Returns:
        Float32 (N, D) on the model's device; positions, where the layer is given a map, are averaged.
    """
    return features_and_logits(model, images).features


def features_and_logits(model: ModelUnderTest, images: Images) -> FeaturesAndLogits:
    """The features before the head with the logits of the same forward.

    Args:
        model: The model.
        images: Float (N, C, H, W) in [0, 1].
    """
    images, name = model.check_images(images), head_layer(model)
    given: list[Tensor] = []

    def answer(rows: slice) -> FeaturesAndLogits:
        given.clear()
        logits = model.module(images[rows])
        if not given:
            return FeaturesAndLogits(logits.float(), logits)
        return FeaturesAndLogits(torch.stack(given[-model.module.draws :]).mean(0), logits)

    layer = model.net.get_submodule(name) if name else None
    handle = layer and layer.register_forward_pre_hook(lambda _, inputs: given.append(_as_rows(inputs[0])))
    try:
        with torch.no_grad(), ieee_float32():
            parts = list(in_batches(len(images), model.layout, answer))
    finally:
        if handle:
            handle.remove()
    if not parts:
        empty = images.new_zeros(0, len(model.classes))
        return FeaturesAndLogits(empty, empty)
    return FeaturesAndLogits(*(torch.cat(column) for column in zip(*parts, strict=True)))


@once_per_model
def head_layer(model: ModelUnderTest) -> str:
    """The name of the layer that makes the logits: the last linear layer or convolution that runs, where all outputs
    come from it; empty where there is none.

    It is looked for once, on a grey image; that forward is not counted.

    Args:
        model: The model.
    """
    ran: list[tuple[str, int]] = []
    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: ran.append((name, _channels(output))))
        for name, layer in model.net.named_modules()
        if isinstance(layer, _HEADS)
    ]
    meter = model.module.meter
    before = meter.passes
    try:
        with torch.no_grad(), ieee_float32():
            model.module(torch.full((1, *model.input_shape), 0.5, device=model.device))
    finally:
        meter.forwards, meter.backwards = before.forwards, before.backwards
        for handle in handles:
            handle.remove()
    if not ran or [name for name, _ in ran].count(ran[-1][0]) > model.module.draws:  # a layer that runs several times
        return ""
    name, channels = ran[-1]
    return name if channels in (len(model.classes), 1) else ""


def _channels(output: object) -> int:
    """The number of channels of what a layer gives: the last axis of rows, the second of maps."""
    if not isinstance(output, Tensor):
        return 0
    return int(output.shape[1] if output.ndim == 4 else output.shape[-1])


def _as_rows(given: Tensor) -> Tensor:
    """Rows (N, D) of what a layer is given: maps (N, D, h, w) and tokens (N, T, D) averaged over their positions."""
    if given.ndim == 4:
        return given.float().mean((2, 3))
    return given.float().flatten(1, -2).mean(1) if given.ndim > 2 else given.float()
