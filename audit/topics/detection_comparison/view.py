"""What the report shows of two detectors beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.detection_comparison.section import PrecisionChange


def is_shown(document: AuditDocument) -> bool:
    """Whether there are two detectors.

    Args:
        document: The audit document.
    """
    return bool(document.rows(PrecisionChange))


def view(
    document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]
) -> tuple[tuple[str, PrecisionChange], ...]:
    """Each quantity in the reader's language.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    return tuple((named_quantity(row.quantity, locale), row) for row in document.rows(PrecisionChange))


def named_quantity(quantity: str, locale: Locale) -> str:
    """The name of a condition in the reader's language.

    Args:
        quantity: As the document has it, see `SampledPrecision`.
        locale: The reader's language.
    """
    kind, _, what = quantity.partition(", ")
    if kind == "mAP under a patch":
        return locale(f"detection_comparison.patch_{what}")
    key = {"mAP clean": "clean", "mAP under attack": "attack", "mAP under corruptions": "corruptions"}[kind]
    return locale(f"detection_comparison.{key}", threat=what)
