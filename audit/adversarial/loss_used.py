"""Which loss an attack really climbed: DLR is the margin itself where the model has too few classes for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.adversarial.attack_result import AttackResult
from audit.core.note import Note, note
from audit.core.registry import find
from audit.core.types import ClassMask
from audit.models.losses import dlr_classes

MARGIN_FOR_DLR = "margin in place of dlr"
"""What the settings of such a row say of its loss."""


def with_loss_used(row: AttackResult, goal: ClassMask) -> AttackResult:
    """The row, whose settings name the loss where another was climbed than its attack is known for.

    Args:
        row: What an attack did.
        goal: The classes that counted as broken, bool (N, K).
    """
    facts = find("attack", row.attack).facts
    untargeted = not facts.get("aimed") and bool(((~goal).sum(1) == 1).all())
    enough = goal.shape[1] >= dlr_classes(untargeted=untargeted)
    if enough or facts.get("loss", row.settings.get("loss")) != "dlr":
        return row
    return row.model_copy(update={"settings": {**row.settings, "loss": MARGIN_FOR_DLR}})


def loss_notes(rows: Sequence[AttackResult]) -> Iterator[Note]:
    """A sentence that names the attacks that climbed the margin in place of DLR; none where there are none.

    Args:
        rows: What each attack did.
    """
    names = sorted({row.name for row in rows if row.settings.get("loss") == MARGIN_FOR_DLR})
    if names:
        yield note(
            "dlr_margin",
            "The DLR loss needs three classes, and four to aim at one of them: {attacks} climbed the margin instead.",
            attacks=", ".join(names),
        )
