"""What the outputs of a model mean: logits, probabilities, or the single sigmoid of a two-class net."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.core.errors import ModelError
from audit.core.note import Note, note

OutputKind = Literal["logits", "probabilities", "one logit", "one probability"]

NOTES: dict[OutputKind, Note] = {
    "probabilities": note(
        "model_softmax",
        "The model ends in softmax: its outputs are used as log-probabilities, and gradients may vanish where it is "
        "confident.",
    ),
    "one logit": note(
        "model_one_logit", "The model has one output for two classes: logit z is read as the logits (0, z)."
    ),
    "one probability": note(
        "model_one_probability",
        "The model has one sigmoid output for two classes: probability p is read as the logits (log(1 - p), log p).",
    ),
}

_SMALLEST = 1e-30


def detect_output_kind(outputs: Tensor, classes: int) -> OutputKind:
    """Tell what outputs mean from a few of them.

    Args:
        outputs: Raw outputs on images, (N, K).
        classes: Number of classes.

    Raises:
        ModelError: When K fits the number of classes in no way, or an output is not finite.
    """
    if outputs.ndim != 2 or outputs.shape[1] not in ((1, classes) if classes == 2 else (classes,)):
        raise ModelError(
            f"The model's output has shape {tuple(outputs.shape)} for {outputs.shape[0]} images, where "
            f"({outputs.shape[0]}, {classes}) was expected: one score for each of the {classes} classes. Give the "
            "class names in the model's order, or the architecture with the right number of outputs."
        )
    if not torch.isfinite(outputs).all():
        raise ModelError(
            "The model's outputs are not finite (NaN or infinity) on images in [0, 1]. Check its weights and the "
            "normalisation given by --mean and --std."
        )
    in_unit = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.shape[1] == 1:
        return "one probability" if in_unit else "one logit"
    sums_to_one = bool(((outputs.sum(1) - 1).abs() < 1e-4).all())
    return "probabilities" if in_unit and sums_to_one else "logits"


def to_logits(outputs: Tensor, kind: OutputKind) -> Tensor:
    """Logits from raw outputs.

    Args:
        outputs: (N, K), K being 1 where there is one output for two classes.
        kind: What they mean.

    Returns:
        Float32 (N, classes).
    """
    outputs = outputs.float()
    if kind == "probabilities":
        return outputs.clamp(min=_SMALLEST).log()
    if kind == "one logit":
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    if kind == "one probability":
        return torch.cat([1 - outputs, outputs], dim=1).clamp(min=_SMALLEST).log()
    return outputs
