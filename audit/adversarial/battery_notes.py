"""What a reader should know of how a battery ran."""

from __future__ import annotations

from collections.abc import Sequence

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.loss_used import loss_notes
from audit.core.note import Note, note
from audit.core.threat import Norm
from audit.models.under_test import ModelUnderTest


def battery_notes(model: ModelUnderTest, norm: Norm, rows: Sequence[AttackResult], draws: int) -> tuple[Note, ...]:
    """How the model was run, where gradients were taken, what was averaged, and which loss was climbed.

    Args:
        model: The model under attack.
        norm: The norm of the attacks.
        rows: What each attack did.
        draws: Forwards that every answer was the mean of; 1 of a deterministic model.
    """
    point = model.furthest_gradient_point if norm == "linf" else model.gradient_point
    notes = [*model.notes, *point.notes]
    if draws > 1:
        notes.append(
            note(
                "not_deterministic",
                "The model is not deterministic: attacks followed, and the verifier judged by, the mean of {draws} "
                "forwards (expectation over randomness).",
                draws=draws,
            )
        )
    notes += loss_notes(rows)
    return tuple(notes)
