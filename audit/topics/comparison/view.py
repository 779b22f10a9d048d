"""What the report shows of two models beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.comparison.section import ComparisonRow
from audit.topics.compression.section import CompressionPart


def is_shown(document: AuditDocument) -> bool:
    """Whether the comparison has a section of its own: a compressed model's stands in that of compression.

    Args:
        document: The audit document.
    """
    return bool(document.rows(ComparisonRow)) and not document.rows(CompressionPart)


def view(
    document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]
) -> tuple[tuple[str, ComparisonRow], ...]:
    """Each quantity with its title.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    return tuple((_quantity(row.quantity, locale), row) for row in document.rows(ComparisonRow))


def _quantity(name: str, locale: Locale) -> str:
    kind, _, threat = name.partition(" ")
    return locale("comparison.robust", threat=threat) if kind == "robust" else locale(f"comparison.{kind}")
