"""Nets whose layers no method can look into or hook."""

from __future__ import annotations

import torch
from torch import nn

from audit.core.note import Note, note
from audit.models.fixed_batch import FixedBatch

_SCRIPT = note(
    "closed_script",
    "The model is TorchScript, whose layers cannot be looked into; methods that need gradients or scores alone apply.",
)
_BATCH = note(
    "closed_batch",
    "The model takes batches of one size only, so what its layers hold belongs to several batches; methods that need "
    "gradients or scores alone apply.",
)


def why_closed(net: nn.Module) -> Note | None:
    """Why the layers of a net cannot be looked into; None where they can.

    Args:
        net: The net.
    """
    layers = list(net.modules())
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in layers):
        return _SCRIPT
    return _BATCH if any(isinstance(layer, FixedBatch) for layer in layers) else None
