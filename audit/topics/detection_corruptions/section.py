"""mAP under corruptions: rows of the document."""

from __future__ import annotations

from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.run_results import RunResults
from audit.topics.detection_corruptions.measured import corrupted_detectors, precision_left

MOVING_CORRUPTIONS = ("elastic-transform",)
"""Corruptions that move what is in the image, by a few pixels; the boxes stay, as in COCO-C."""


class DetectionCorruptionRow(DocumentModel):
    """One detector under one corruption at one severity.

    Attributes:
        role: Role of the detector.
        name: Name of the corruption.
        severity: 1 to 5.
        mean_average_precision: Over overlaps .50 to .95.
        moves: Whether the corruption moves what is in the image, so that boxes fit less well.
        cost: What it cost.
    """

    role: str
    name: str
    severity: int
    mean_average_precision: Proportion
    moves: bool
    cost: Cost


class RelativePrecisionRow(DocumentModel):
    """What corruptions leave of one detector's mAP.

    Attributes:
        role: Role of the detector.
        left: Mean mAP under corruptions as a share of the clean one.
        mean: That mean mAP itself; None in runs that did not store it.
    """

    role: str
    left: Proportion
    mean: Proportion | None = None


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each detector by corruption and severity.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    left = {role: precision_left(results, role) for role in context.roles}
    return {
        "detection_corruptions": [row for role in context.roles for row in _rows(results, role)],
        "relative_precision": [
            RelativePrecisionRow(role=role, left=proportion(some.share), mean=proportion(some.mean))
            for role, some in left.items()
            if some
        ],
    }


def _rows(results: RunResults, role: str) -> list[DetectionCorruptionRow]:
    rows = [
        DetectionCorruptionRow(
            role=role,
            name=one.name,
            severity=one.severity,
            mean_average_precision=proportion(one.precision.mean),
            moves=one.name in MOVING_CORRUPTIONS,
            cost=cost_of(one.entries),
        )
        for one in corrupted_detectors(results, role)
        if one.precision is not None
    ]
    return sorted(rows, key=lambda row: (row.name, row.severity))
