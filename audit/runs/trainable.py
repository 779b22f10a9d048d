"""A run of a model that cannot be trained, as quantised nets and frozen scripts cannot: audited without hardening."""

from __future__ import annotations

from dataclasses import replace

import torch

from audit.adversarial.gradient_diagnostics import differentiable
from audit.config import RunConfig
from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.core.types import Batch
from audit.models.fixed_batch import FixedBatch
from audit.models.loaded import LoadedModel
from audit.models.under_test import ModelUnderTest

_NO_GRADIENT = note("model_no_training", "The model has no weights, or no gradient, to be trained by")
_FIXED_BATCH = note("model_no_training_batch", "The model takes batches of one size only, so it cannot be trained")


def without_impossible_hardening(
    config: RunConfig, loaded: LoadedModel, model: ModelUnderTest
) -> tuple[RunConfig, LoadedModel]:
    """The configuration without hardening where nobody asked for it and the model cannot be trained.

    Args:
        config: The configuration of the run.
        loaded: The model of a checkpoint or of a function.
        model: The same, wrapped.

    Returns:
        The configuration, and the model with a note on what was left out.

    Raises:
        ModelError: Hardening was asked for.
    """
    reason = _why_not_trainable(model) if config.hardening.enabled else None
    if reason is None:
        return config, loaded
    if config.hardening.asked_for:
        raise ModelError(f"{reason}: leave --harden out, and it is audited as it is.")
    said = note("model_no_hardening", "{reason}: it is audited as it is and not hardened.", reason=reason)
    return config.without_hardening(), replace(loaded, notes=(*loaded.notes, said))


def _why_not_trainable(model: ModelUnderTest) -> Note | None:
    if any(isinstance(layer, FixedBatch) for layer in model.net.modules()):
        return _FIXED_BATCH
    grey = torch.full((1, *model.input_shape), 0.5, device=model.device)
    image = Batch(grey, torch.zeros(1, dtype=torch.int64, device=model.device), ("grey",))
    return None if any(True for _ in model.net.parameters()) and differentiable(model, image) else _NO_GRADIENT
