"""Weights put into a module by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a complete state dict that may have lost the versions of the layers it was made of.

    A file of plain tensors keeps none, and layers that have changed since (torchvision's MNASNet) refuse to guess: the
    versions are taken to be the module's own.

    Args:
        module: The module, changed in place.
        state: Its state dict.
    """
    versioned: Any = OrderedDict(state)
    versioned._metadata = getattr(state, "_metadata", None) or getattr(module.state_dict(), "_metadata", {})
    module.load_state_dict(versioned)
