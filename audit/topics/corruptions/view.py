"""What the report shows of corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import series_colour, series_shape, share_axis, svg_chart
from audit.document.locale import Locale
from audit.document.model import Proportion
from audit.document.schema import AuditDocument
from audit.topics.corruptions.section import CorruptionRow


@dataclass(frozen=True)
class CorruptionView:
    """What the template shows.

    Attributes:
        chart: Mean accuracy by severity.
        severities: The severities measured, ascending.
        table: By corruption and model, the accuracy at each severity.
    """

    chart: Markup
    severities: tuple[int, ...]
    table: tuple[tuple[str, str, dict[int, Proportion]], ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> CorruptionView:
    """The chart and the table of severities.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = document.rows(CorruptionRow)
    severities = tuple(sorted({row.severity for row in rows}))
    return CorruptionView(Markup(corruption_chart(rows, locale)), severities, _corruption_table(rows))


def _corruption_table(rows: Sequence[CorruptionRow]) -> tuple[tuple[str, str, dict[int, Proportion]], ...]:
    lines = dict.fromkeys((row.name, row.role) for row in rows)
    return tuple(
        (name, role, {row.severity: row.accuracy for row in rows if (row.name, row.role) == (name, role)})
        for name, role in sorted(lines, key=lambda line: line[0])
    )


def corruption_chart(rows: Sequence[CorruptionRow], locale: Locale) -> str:
    """An SVG chart of mean accuracy over corruptions by severity, one line per model.

    Args:
        rows: Accuracy by model, corruption and severity.
        locale: The reader's language.
    """
    roles = list(dict.fromkeys(row.role for row in rows))
    points = [
        {"x": severity, "y": _mean(rows, role, severity), "series": locale.name("role", role)}
        for role in roles
        for severity in sorted({row.severity for row in rows if row.role == role})
    ]
    colour = series_colour([locale.name("role", role) for role in roles])
    x = alt.X("x:O", title=locale("corruptions.axis_severity"), axis=alt.Axis(labelAngle=0, grid=False))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=share_axis(locale, "y:Q"), color=colour)
    chart = base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=42, opacity=1).encode(
        shape=series_shape(colour)
    )
    description = "; ".join(f"{p['series']}, {p['x']}: {p['y']:.1%}" for p in points)
    return svg_chart(chart, locale("corruptions.chart_title"), description)


def _mean(rows: Sequence[CorruptionRow], role: str, severity: int) -> float:
    values = [row.accuracy.estimate for row in rows if row.role == role and row.severity == severity]
    return sum(values) / len(values)
