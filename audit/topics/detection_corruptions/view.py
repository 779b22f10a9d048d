"""What the report shows of a detector under corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import series_colour, series_shape, svg_chart
from audit.document.locale import Locale
from audit.document.model import Proportion
from audit.document.schema import AuditDocument
from audit.topics.detection_corruptions.section import DetectionCorruptionRow

Line = tuple[str, str, bool, dict[int, Proportion]]
"""A corruption, a model, whether it moves what is in the image, and by severity the mAP."""


@dataclass(frozen=True)
class DetectionCorruptionView:
    """What the template shows.

    Attributes:
        chart: Mean mAP by severity.
        severities: The severities measured, ascending.
        table: A line for each corruption and model.
    """

    chart: Markup
    severities: tuple[int, ...]
    table: tuple[Line, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> DetectionCorruptionView:
    """The chart and the table of severities.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = document.rows(DetectionCorruptionRow)
    severities = tuple(sorted({row.severity for row in rows}))
    lines = dict.fromkeys((row.name, row.role, row.moves) for row in rows)
    table = tuple(
        (name, role, moves, {r.severity: r.mean_average_precision for r in rows if (r.name, r.role) == (name, role)})
        for name, role, moves in sorted(lines, key=lambda line: line[0])
    )
    return DetectionCorruptionView(Markup(_chart(rows, locale)), severities, table)


def _chart(rows: Sequence[DetectionCorruptionRow], locale: Locale) -> str:
    roles = list(dict.fromkeys(row.role for row in rows))
    points = [
        {"x": severity, "y": _mean(rows, role, severity), "series": locale.name("role", role)}
        for role in roles
        for severity in sorted({row.severity for row in rows if row.role == role})
    ]
    colour = series_colour([locale.name("role", role) for role in roles])
    x = alt.X("x:O", title=locale("corruptions.axis_severity"), axis=alt.Axis(labelAngle=0, grid=False))
    y = alt.Y("y:Q", title="mAP", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".1f", tickCount=5))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y, color=colour)
    chart = base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=42, opacity=1).encode(
        shape=series_shape(colour)
    )
    description = "; ".join(f"{p['series']}, {p['x']}: {p['y']:.3f}" for p in points)
    return svg_chart(chart, locale("detection_corruptions.chart_title"), description)


def _mean(rows: Sequence[DetectionCorruptionRow], role: str, severity: int) -> float:
    values = [r.mean_average_precision.estimate for r in rows if r.role == role and r.severity == severity]
    return sum(values) / len(values)
