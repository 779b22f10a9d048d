"""What the report shows of concepts: a card a class, which opens the section on explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.concepts.section import ConceptRow
from audit.topics.explanations.consensus import ConsensusRow
from audit.topics.shortcuts.section import ShortcutRow

_SHOWN = 2
"""Concepts of the model under test on a card."""
_CARDS = 12
"""Classes with a card at most; the table below has all of them."""


@dataclass(frozen=True)
class ClassCard:
    """What the models go by in one class.

    Attributes:
        label: Name of the class.
        consensus: Where the methods that passed their checks say the model under test looks; None without any.
        leading: The leading concepts of the model under test.
        others: By role of another model, its leading concept.
        shortcuts: Places that decide the class.
    """

    label: str
    consensus: ConsensusRow | None
    leading: tuple[ConceptRow, ...]
    others: tuple[ConceptRow, ...]
    shortcuts: tuple[ShortcutRow, ...]


@dataclass(frozen=True)
class ConceptsView:
    """What the templates show.

    Attributes:
        cards: A card a class.
        left_out: Classes without a card.
    """

    cards: tuple[ClassCard, ...]
    left_out: int


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> ConceptsView:
    """A card a class that any of it is known of.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    concepts, consensus = document.rows(ConceptRow), document.rows(ConsensusRow)
    first = concepts[0].role if concepts else ""
    labels = list(dict.fromkeys(row.label for row in concepts))
    cards = tuple(_card(document, label, first, concepts, consensus) for label in labels[:_CARDS])
    return ConceptsView(cards, len(labels) - len(cards))


def _card(
    document: AuditDocument,
    label: str,
    first: str,
    concepts: Sequence[ConceptRow],
    consensus: Sequence[ConsensusRow],
) -> ClassCard:
    of_class = [row for row in concepts if row.label == label]
    return ClassCard(
        label,
        next((row for row in consensus if row.label == label and row.role == first), None),
        tuple(row for row in of_class if row.role == first)[:_SHOWN],
        tuple(row for row in of_class if row.role != first and row.number == 1),
        tuple(row for row in document.rows(ShortcutRow) if row.label == label and row.role == first),
    )
