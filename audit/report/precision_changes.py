"""Comparing the mAP of detectors between two runs: the same images, drawn together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.core.note import Note, note
from audit.document.model import DocumentModel
from audit.document.schema import AuditDocument
from audit.topics.detection_comparison.section import PrecisionChange, SampledPrecision, change_of_precision


class RunPrecisionChange(DocumentModel):
    """mAP of one detector in one condition in both runs.

    Attributes:
        role: Role of the detector.
        row: mAP in both runs and their difference.
        adjusted_p: The p-value of the row, adjusted for the number of quantities by Holm's method.
        regressed: Whether it fell beyond chance.
    """

    role: str
    row: PrecisionChange
    adjusted_p: float
    regressed: bool


def precision_changes(before: AuditDocument, after: AuditDocument) -> list[RunPrecisionChange]:
    """Each condition that both runs measured alike on the same images; p-values are not adjusted yet.

    Args:
        before: Document of the first run.
        after: Document of the second run.
    """
    return [
        RunPrecisionChange(
            role=first.role, row=(row := change_of_precision(first, second)), adjusted_p=row.p_value, regressed=False
        )
        for first, second in _pairs(before, after)
        if not _difference(first, second, before, after)
    ]


def unpaired_precision(before: AuditDocument, after: AuditDocument) -> list[Note]:
    """What is not compared, and why.

    Args:
        before: Document of the first run.
        after: Document of the second run.
    """
    return [why for pair in _pairs(before, after) if (why := _difference(*pair, before, after))]


def _pairs(before: AuditDocument, after: AuditDocument) -> Iterator[tuple[SampledPrecision, SampledPrecision]]:
    later = {(row.role, row.quantity): row for row in after.rows(SampledPrecision)}
    for row in before.rows(SampledPrecision):
        if other := later.get((row.role, row.quantity)):
            yield row, other


def _difference(
    first: SampledPrecision, second: SampledPrecision, before: AuditDocument, after: AuditDocument
) -> Note | None:
    """Why two rows cannot be paired."""
    if _images(first, before.example_ids) != _images(second, after.example_ids):
        return note(
            "precision_other_images",
            "{quantity} of the {role} detector is not compared: the runs measured it on different images.",
            quantity=first.quantity,
            role=first.role,
        )
    if first.protocol != second.protocol:
        return note(
            "precision_other_protocol",
            "{quantity} of the {role} detector is not compared: the runs measured it with different methods or "
            "settings.",
            quantity=first.quantity,
            role=first.role,
        )
    return None


def _images(row: SampledPrecision, ids: Sequence[str]) -> set[str]:
    return set(ids[slice(*row.images)])
