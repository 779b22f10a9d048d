"""What the report shows of a detector on clean images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.metrics.detection_errors import OUTCOMES
from audit.topics.accuracy.view import reliability_chart
from audit.topics.detection_accuracy.section import DetectionPart, DetectionPicture

ERROR_KINDS = ("missed", *(kind for kind in OUTCOMES if kind not in ("right", "crowd")))
"""The kinds of error in the order in which they are shown."""


@dataclass(frozen=True)
class DetectionView:
    """What the template shows.

    Attributes:
        chart: The reliability diagram; empty where nothing was found.
        kinds: The kinds of error that occur.
        galleries: By kind of error and role, the pictures that have one.
    """

    chart: Markup
    kinds: tuple[str, ...]
    galleries: tuple[tuple[str, tuple[DetectionPicture, ...]], ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> DetectionView:
    """The reliability diagram, and the pictures by kind of error; each picture stands under its first kind.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    parts, pictures = document.rows(DetectionPart), document.rows(DetectionPicture)
    bins = {part.role: part.reliability for part in parts if part.reliability}
    told = " ".join(
        locale(
            "detection_accuracy.chart_told",
            role=locale.name("role", p.role),
            error=f"{p.calibration_error.estimate:.1%}",
        )
        for p in parts
        if p.calibration_error is not None
    )
    chart = reliability_chart(bins, locale, title="detection_accuracy.reliability", description=told) if bins else ""
    kinds = tuple(kind for kind in ERROR_KINDS if any(part.outcomes.get(kind) for part in parts))
    galleries = (
        (kind, tuple(shown for shown in pictures if (shown.kinds or ["right"])[0] == kind))
        for kind in (*ERROR_KINDS, "right")
    )
    return DetectionView(Markup(chart), kinds, tuple((kind, shown) for kind, shown in galleries if shown))
