"""What the report shows of proofs: between which bounds robust accuracy lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import FAINT, series_colour, series_shape, share_axis, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.certification.section import Bracket, further_options
from audit.topics.robustness.section import RobustnessPart


class CertificationView(NamedTuple):
    """What the template shows besides the rows.

    Attributes:
        charts: The band of every model, one chart a norm.
        further: The options of `audit run` that ask further what is open.
    """

    charts: Markup
    further: str


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> CertificationView:
    """The band of every model, and what asks the open images further.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = document.rows(Bracket)
    marked = {part.norm: part.eps for part in document.rows(RobustnessPart)}
    charts = [
        bracket_chart([row for row in rows if row.norm == norm], locale, marked.get(norm))
        for norm in dict.fromkeys(row.norm for row in rows)
    ]
    return CertificationView(Markup("".join(charts)), further_options(rows))


def bracket_chart(rows: Sequence[Bracket], locale: Locale, eps: float | None) -> str:
    """An SVG chart of the share proven and the share unbroken against eps, with what is open as a band between them.

    Args:
        rows: The brackets of each model under one norm.
        locale: The reader's language.
        eps: That of the verdict, which is marked; None for none.
    """
    points = [
        {
            "x": point.eps,
            "low": point.proven.estimate,
            "high": point.unbroken.estimate,
            "series": locale.name("role", row.role),
        }
        for row in rows
        for point in row.points
    ]
    values = sorted({0.0, *(point.eps for row in rows for point in row.points)})
    axis = alt.Axis(grid=False, values=values, format="~g", labelOverlap="greedy", labelSeparation=6, labelFlush=False)
    x = alt.X("x:Q", title=locale("robustness.axis_eps", norm=rows[0].norm), axis=axis)
    colour = series_colour([locale.name("role", row.role) for row in rows])
    base = alt.Chart(alt.Data(values=points)).encode(x=x, color=colour)
    chart = base.mark_area(opacity=0.28).encode(y=share_axis(locale, title="brackets.axis"), y2="high:Q")
    for end in ("low", "high"):
        chart += base.mark_line(strokeWidth=2 if end == "low" else 1.2).encode(y=alt.Y(f"{end}:Q"))
        dots = base.mark_point(filled=end == "low", size=42, opacity=1)
        chart += dots.encode(y=alt.Y(f"{end}:Q"), shape=series_shape(colour))
    if eps is not None:
        mark = alt.Chart(alt.Data(values=[{"x": eps}])).mark_rule(strokeDash=[4, 3], color=FAINT)
        chart += mark.encode(x="x:Q")
    words = " ".join(_describe(row, locale) for row in rows)
    return svg_chart(chart, locale("brackets.chart_title", norm=rows[0].norm), words)


def _describe(row: Bracket, locale: Locale) -> str:
    points = "; ".join(f"{p.eps:.4g}: {p.proven.estimate:.1%} - {p.unbroken.estimate:.1%}" for p in row.points)
    return f"{locale.name('role', row.role)}: {points}."
