"""What the report shows of deletion and insertion."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import FAINT, few_ticks, series_colour, series_shape, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.faithfulness.section import FaithfulnessRow


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> Markup:
    """The advantage of each method over a random order; empty without deletion.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = document.rows(FaithfulnessRow)
    return Markup(faithfulness_chart(rows, locale) if any(row.measure == "deletion" for row in rows) else "")


def faithfulness_chart(rows: Sequence[FaithfulnessRow], locale: Locale) -> str:
    """An SVG chart of the advantage of each method's deletion over a random order, under the first fill.

    Right of zero is better; each point has its 95% interval.

    Args:
        rows: Deletion and insertion of each model and method.
        locale: The reader's language.
    """
    first: dict[tuple[str, str], FaithfulnessRow] = {}
    for row in rows:
        if row.measure == "deletion":
            first.setdefault((row.role, row.method), row)
    rows_of_first_fill = list(first.values())
    points = [
        {"y": locale.method(row.method), "x": row.advantage, "low": row.low, "high": row.high, "series": series}
        for row in rows_of_first_fill
        for series in (locale.name("role", row.role),)
    ]
    roles = list(dict.fromkeys(locale.name("role", row.role) for row in rows_of_first_fill))
    best_first = sorted(rows_of_first_fill, key=lambda row: (row.role != rows_of_first_fill[0].role, -row.advantage))
    order = list(dict.fromkeys(locale.method(row.method) for row in best_first))
    colour = series_colour(roles)
    y = alt.Y("y:N", title=None, sort=order, axis=alt.Axis(grid=True, labelLimit=220))
    offset = alt.YOffset("series:N", sort=roles, scale=alt.Scale(paddingOuter=0.4))
    base = alt.Chart(alt.Data(values=points)).encode(y=y, yOffset=offset, color=colour)
    span = base.mark_rule(strokeWidth=2, opacity=0.55).encode(
        x=alt.X("low:Q", title=locale("explanations.axis_advantage"), axis=few_ticks()),
        x2="high:Q",
    )
    dots = base.mark_point(filled=True, size=46, opacity=1).encode(x="x:Q", shape=series_shape(colour))
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(strokeDash=[4, 3], color=FAINT).encode(x="x:Q")
    description = "; ".join(f"{p['y']}, {p['series']}: {p['x']:+.3f}" for p in points)
    height = 26 * len(order) if len(roles) == 1 else 34 * len(order)
    return svg_chart(
        zero + span + dots, locale("explanations.chart_title"), description, width=400, height=height, left=30
    )
