"""The models that training and compression studies made, read back from their evidence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.evidence import Evidence
from audit.models.resize_layers import match_state_dict
from audit.models.under_test import ModelUnderTest

WEIGHTS = "weights/"
PACKED = "packed/"
"""Prefixes of arrays: the float32 state dict, and what is stored instead of it where that is smaller."""


def trained_model(evidence: Evidence, *, device: torch.device | str, module: nn.Module) -> ModelUnderTest:
    """The model a training or a compression study made; `module`, of the run's architecture, takes its form and its
    weights."""
    settings, facts = evidence.cell.settings, evidence.facts
    weights = stored_weights(evidence)
    match_state_dict(module, weights, cut=bool(facts.get("cut"))).load_state_dict(weights)
    return ModelUnderTest(
        module,
        classes=settings["classes"],
        input_shape=tuple(settings["input_shape"]),
        mean=facts["mean"],
        std=facts["std"],
        device=device,
    )


def stored_weights(evidence: Evidence) -> dict[str, Tensor]:
    """The state dict in a training study's evidence."""
    return {
        name.removeprefix(WEIGHTS): torch.from_numpy(np.array(array))
        for name, array in evidence.arrays.items()
        if name.startswith(WEIGHTS)
    }
