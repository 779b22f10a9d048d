"""The module that makes the logits, by its name: what a temperature is put into."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.explanation.captum_guard import uncounted
from audit.explanation.once_per_model import once_per_model
from audit.models.precision import ieee_float32
from audit.models.under_test import ModelUnderTest

_HEADS = (nn.Linear, nn.Conv2d, nn.Bilinear)


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
    try:
        with uncounted(model), torch.no_grad(), ieee_float32():
            model.module(torch.full((1, *model.input_shape), 0.5, device=model.device))
    finally:
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
