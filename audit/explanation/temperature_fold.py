"""A temperature put into the weights of a net's last layer, so that whatever loads them divides by it."""

from __future__ import annotations

import torch
from torch import nn

from audit.core.errors import ModelError
from audit.explanation.features import head_layer
from audit.models.module_copy import copy_module
from audit.models.under_test import ModelUnderTest


def with_temperature(module: nn.Module, model: ModelUnderTest, temperature: float, name: str) -> nn.Module:
    """A copy of a net whose logits are divided by a temperature: its last layer's weights and bias are.

    Args:
        module: The net.
        model: The same net under test, which says which layer is the last.
        temperature: What the logits are divided by, above 0.
        name: The file's name, for errors.

    Raises:
        ModelError: No linear layer or convolution makes the logits, or its weights are not plain numbers of its own.
    """
    head = head_layer(model)
    copied = copy_module(module)
    layer = dict(copied.named_modules()).get(head) if head else None
    own = {key for key, _ in layer.named_parameters(recurse=False)} if layer is not None else set()
    if layer is None or "weight" not in own:
        raise ModelError(
            f"{name} does not end in a linear layer or a convolution with weights of its own, and a temperature is put "
            "into those; divide its logits by the temperature where they are used."
        )
    with torch.no_grad():
        for key, values in layer.named_parameters(recurse=False):
            if key in ("weight", "bias"):
                values.div_(temperature)
    return copied
