"""What the report shows of clean accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import FAINT, series_colour, series_shape, share_axis, share_x_axis, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.accuracy.section import AccuracyPart, ClassRow, ReliabilityBin


@dataclass(frozen=True)
class AccuracyView:
    """What the template shows.

    Attributes:
        chart: The reliability diagram.
        recalls: By class with images, its row in every model; sorted by recall in the first model.
    """

    chart: Markup
    recalls: tuple[tuple[str, tuple[ClassRow, ...]], ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> AccuracyView:
    """The reliability diagram and the classes.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    parts = document.rows(AccuracyPart)
    return AccuracyView(Markup(reliability_diagram(parts, locale)), _recalls(parts))


def _recalls(parts: Sequence[AccuracyPart]) -> tuple[tuple[str, tuple[ClassRow, ...]], ...]:
    """Each class that has images with its row in every model, the one the first model finds least often first."""
    lines = zip(*([row for row in part.per_class if row.support] for part in parts), strict=True) if parts else ()
    return tuple((rows[0].name, rows) for rows in sorted(lines, key=lambda rows: rows[0].recall))


def reliability_diagram(parts: Sequence[AccuracyPart], locale: Locale) -> str:
    """An SVG reliability diagram (Guo et al. 2017, arXiv:1706.04599): accuracy against confidence by bin.

    On the diagonal the model is calibrated.

    Args:
        parts: Clean accuracy of each model.
        locale: The reader's language.
    """
    description = " ".join(
        locale("accuracy.chart_told", role=locale.name("role", p.role), error=f"{p.calibration_error:.1%}")
        for p in parts
        if p.calibration_error is not None
    )
    bins = {part.role: part.reliability for part in parts}
    return reliability_chart(bins, locale, title="accuracy.chart_title", description=description)


def reliability_chart(
    bins: Mapping[str, Sequence[ReliabilityBin]], locale: Locale, *, title: str, description: str
) -> str:
    """An SVG diagram of the share right against confidence.

    Args:
        bins: By role of a model, its bins.
        locale: The reader's language.
        title: Key of the title.
        description: What it shows, in words.
    """
    rows = [
        {"x": b.confidence, "y": b.accuracy, "count": b.count, "series": locale.name("role", role)}
        for role, own in bins.items()
        for b in own
        if b.count
    ]
    colour = series_colour([locale.name("role", role) for role in bins])
    diagonal = (
        alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        .mark_line(strokeDash=[4, 3], strokeWidth=1, color=FAINT)
        .encode(x="x:Q", y="y:Q")
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=share_x_axis(locale("accuracy.axis_confidence")),
        y=share_axis(locale, "y:Q", "accuracy.axis_right"),
        color=colour,
    )
    line = base.mark_line(strokeWidth=1.5, opacity=0.7)
    dots = base.mark_point(filled=True, opacity=0.9).encode(
        size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[20, 220])), shape=series_shape(colour)
    )
    return svg_chart(diagonal + line + dots, locale(title), description, width=300, height=300)
