"""mAP under corruptions: rows of the document."""

from __future__ import annotations

from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.average_precision import average_precision
from audit.results.run_results import RunResults
from audit.topics.detection_corruptions.measured import corrupted_matches, precision_left

MOVES = ("elastic-transform",)
"""Corruptions that move what is in the image, by a few pixels; the boxes stay, as in COCO-C."""
_RESAMPLED = 200


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
    """

    role: str
    left: Proportion


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each detector by corruption and severity.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    classes = len(context.classes)
    left = {role: precision_left(results, role, classes) for role in context.roles}
    return {
        "detection_corruptions": [row for role in context.roles for row in _rows(results, role, classes)],
        "relative_precision": [
            RelativePrecisionRow(role=role, left=proportion(share)) for role, share in left.items() if share
        ],
    }


def _rows(results: RunResults, role: str, classes: int) -> list[DetectionCorruptionRow]:
    rows = []
    for name, severity, entries, matches in corrupted_matches(results, role, classes):
        precision = average_precision(matches, resamples=_RESAMPLED)
        if precision is not None:
            rows.append(
                DetectionCorruptionRow(
                    role=role,
                    name=name,
                    severity=severity,
                    mean_average_precision=proportion(precision.mean),
                    moves=name in MOVES,
                    cost=cost_of(entries),
                )
            )
    return sorted(rows, key=lambda row: (row.name, row.severity))
