"""Charts as inline SVG, made when the report is: Altair describes, vl-convert draws, the page's style colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt
import vl_convert

from audit.report.further_parts import CertificatePart
from audit.report.history import HistoryScore
from audit.report.locale import Locale
from audit.report.schema import AccuracyPart, CorruptionRow, FaithfulnessRow, RobustnessPart
from audit.report.trends import Trend
from audit.results.document_model import Proportion

_INK, _FAINT, _GRID = "var(--ink)", "var(--ink-soft)", "var(--line)"
_WIDTH, _HEIGHT = 460, 240
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def robustness_curve(parts: Sequence[RobustnessPart], locale: Locale, proofs: Sequence[CertificatePart] = ()) -> str:
    """Robust accuracy against eps, one line a model with its Wilson band; the headline eps marked. What is proven of
    the same models is a dotted line: the truth lies between."""
    rows = [
        {"x": point.eps, **_band(point.robust), "series": locale.name("role", part.role)}
        for part in parts
        for point in part.curve
    ]
    x = alt.X("x:Q", title=locale("robustness.axis_eps", norm=parts[0].norm), axis=_eps_axis(parts))
    colour = _colour([locale.name("role", part.role) for part in parts])
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.18).encode(y=_share_axis(locale), y2="high:Q", x=x)
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("y:Q"))
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=alt.Y("y:Q"), shape=_shape(colour))
    rule = alt.Chart(alt.Data(values=[{"x": parts[0].eps}])).mark_rule(strokeDash=[4, 3], color=_FAINT).encode(x="x:Q")
    proven = [
        {"x": point.eps, "y": point.robust.estimate, "series": locale.name("role", part.role)}
        for part in proofs
        for point in part.curve
    ]
    below = alt.Chart(alt.Data(values=proven)).mark_line(strokeDash=[2, 3]).encode(x=x, y=alt.Y("y:Q"), color=colour)
    return _svg(
        band + rule + line + dots + below if proven else band + rule + line + dots,
        locale("robustness.chart_title", norm=parts[0].norm),
        " ".join([*(_describe(p, locale) for p in parts), *(_describe_proof(p, locale) for p in proofs)]),
    )


def reliability_diagram(parts: Sequence[AccuracyPart], locale: Locale) -> str:
    """Accuracy against confidence by bin; on the diagonal, confidence can be believed."""
    rows = [
        {"x": b.confidence, "y": b.accuracy, "count": b.count, "series": locale.name("role", part.role)}
        for part in parts
        for b in part.reliability
        if b.count
    ]
    colour = _colour([locale.name("role", part.role) for part in parts])
    diagonal = (
        alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        .mark_line(strokeDash=[4, 3], strokeWidth=1, color=_FAINT)
        .encode(x="x:Q", y="y:Q")
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=_share_x(locale("accuracy.axis_confidence")),
        y=_share_axis(locale, "y:Q", "accuracy.axis_right"),
        color=colour,
    )
    line = base.mark_line(strokeWidth=1.5, opacity=0.7)
    dots = base.mark_point(filled=True, opacity=0.9).encode(
        size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[20, 220])), shape=_shape(colour)
    )
    told = " ".join(
        locale("accuracy.chart_told", role=locale.name("role", p.role), error=f"{p.calibration_error:.1%}")
        for p in parts
    )
    return _svg(diagonal + line + dots, locale("accuracy.chart_title"), told, width=300, height=300)


def corruption_chart(rows: Sequence[CorruptionRow], locale: Locale) -> str:
    """Mean accuracy over corruptions by severity, one line a model."""
    roles = list(dict.fromkeys(row.role for row in rows))
    points = [
        {"x": severity, "y": _mean(rows, role, severity), "series": locale.name("role", role)}
        for role in roles
        for severity in sorted({row.severity for row in rows if row.role == role})
    ]
    colour = _colour([locale.name("role", role) for role in roles])
    x = alt.X("x:O", title=locale("corruptions.axis_severity"), axis=alt.Axis(labelAngle=0, grid=False))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=_share_axis(locale, "y:Q"), color=colour)
    drawn = base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=42, opacity=1).encode(
        shape=_shape(colour)
    )
    told = "; ".join(f"{p['series']}, {p['x']}: {p['y']:.1%}" for p in points)
    return _svg(drawn, locale("corruptions.chart_title"), told)


def faithfulness_chart(rows: Sequence[FaithfulnessRow], locale: Locale) -> str:
    """The advantage of each method's deletion over a random order, with its interval, under the first fill; right of
    zero is better."""
    first: dict[tuple[str, str], FaithfulnessRow] = {}
    for row in rows:
        if row.measure == "deletion":
            first.setdefault((row.role, row.method), row)
    kept = list(first.values())
    points = [
        {"y": locale.method(row.method), "x": row.advantage, "low": row.low, "high": row.high, "series": series}
        for row in kept
        for series in (locale.name("role", row.role),)
    ]
    roles = list(dict.fromkeys(locale.name("role", row.role) for row in kept))
    best_first = sorted(kept, key=lambda row: (row.role != kept[0].role, -row.advantage))
    order = list(dict.fromkeys(locale.method(row.method) for row in best_first))
    colour = _colour(roles)
    y = alt.Y("y:N", title=None, sort=order, axis=alt.Axis(grid=True, labelLimit=220))
    offset = alt.YOffset("series:N", sort=roles, scale=alt.Scale(paddingOuter=0.4))
    base = alt.Chart(alt.Data(values=points)).encode(y=y, yOffset=offset, color=colour)
    span = base.mark_rule(strokeWidth=2, opacity=0.55).encode(
        x=alt.X("low:Q", title=locale("explanations.axis_advantage"), axis=_few_ticks()),
        x2="high:Q",
    )
    dots = base.mark_point(filled=True, size=46, opacity=1).encode(x="x:Q", shape=_shape(colour))
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(strokeDash=[4, 3], color=_FAINT).encode(x="x:Q")
    told = "; ".join(f"{p['y']}, {p['series']}: {p['x']:+.3f}" for p in points)
    height = 26 * len(order) if len(roles) == 1 else 34 * len(order)
    return _svg(zero + span + dots, locale("explanations.chart_title"), told, width=400, height=height, left=30)


def trend_chart(trend: Trend, locale: Locale) -> str:
    """One quantity from run to run, one line a model, each point with its interval."""
    rows = [
        {"x": point.number, **_band(point.level), "series": locale.name("role", point.level.role)}
        for point in trend.points
    ]
    colour = _colour([str(row["series"]) for row in rows])
    axis = alt.Axis(
        grid=False, values=sorted({point.number for point in trend.points}), format="d", labelOverlap="greedy"
    )
    x = alt.X("x:Q", title=locale("history.axis"), axis=axis, scale=alt.Scale(zero=False, nice=False, padding=12))
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    spans = base.mark_rule(opacity=0.55, strokeWidth=2).encode(y=_share_axis(locale), y2="high:Q", x=x)
    line = base.mark_line(strokeWidth=1.5, opacity=0.7).encode(y=alt.Y("y:Q"))
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=alt.Y("y:Q"), shape=_shape(colour))
    told = "; ".join(f"{row['x']}, {row['series']}: {row['y']:.1%}" for row in rows)
    name = locale("comparison.robust", threat=trend.threat) if trend.threat else locale("comparison.clean")
    return _svg(spans + line + dots, name, told, width=560, height=200)


def _mean(rows: Sequence[CorruptionRow], role: str, severity: int) -> float:
    values = [row.accuracy.estimate for row in rows if row.role == role and row.severity == severity]
    return sum(values) / len(values)


def _band(share: Proportion | HistoryScore) -> dict[str, float]:
    return {"y": share.estimate, "low": share.low, "high": share.high}


def _share_axis(locale: Locale, field: str = "low:Q", title: str = "charts.share_right") -> alt.Y:
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    return alt.Y(field, title=locale(title), scale=alt.Scale(domain=[0, 1]), axis=axis)


def _share_x(title: str) -> alt.X:
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], grid=False)
    return alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def _eps_axis(parts: Sequence[RobustnessPart]) -> alt.Axis:
    """A tick where something was measured."""
    values = sorted({0.0, *(point.eps for part in parts for point in part.curve)})
    return alt.Axis(grid=False, values=values, format="~g", labelOverlap="greedy", labelSeparation=6, labelFlush=False)


def _few_ticks() -> alt.Axis:
    """At most eight numbers with a sign and two decimals beside each other, which the width holds."""
    return alt.Axis(grid=False, labelFlush=False, tickCount=5)


def _colour(names: list[str]) -> alt.Color:
    colours = [f"var(--series-{i % 6 + 1})" for i in range(len(dict.fromkeys(names)))]
    scale = alt.Scale(domain=list(dict.fromkeys(names)), range=colours)
    return alt.Color("series:N", title=None, scale=scale, legend=alt.Legend(orient="top", symbolType="circle"))


def _shape(colour: alt.Color) -> alt.Shape:
    """The same order as the colours, so that no reader depends on colour."""
    domain = colour.to_dict()["scale"]["domain"]
    return alt.Shape("series:N", title=None, scale=alt.Scale(domain=domain, range=list(_SHAPES[: len(domain)])))


def _describe(part: RobustnessPart, locale: Locale) -> str:
    points = "; ".join(f"{p.eps:.4g}: {p.robust.estimate:.1%}" for p in part.curve)
    return f"{locale.name('role', part.role)}: {points}."


def _describe_proof(part: CertificatePart, locale: Locale) -> str:
    points = "; ".join(f"{p.eps:.4g}: {p.robust.estimate:.1%}" for p in part.curve)
    return f"{locale.name('role', part.role)}, {locale('certificates.proven')}: {points}."


def _padding(left: int) -> dict[str, int]:
    """Room for a page font that is wider than the one the chart was measured with."""
    return {"left": left, "right": 16, "top": 4, "bottom": 4}


def _svg(chart: Any, title: str, description: str, *, width: int = _WIDTH, height: int = _HEIGHT, left: int = 6) -> str:
    """The chart as one <svg> with its text alternative; sizes are left to the page. The parts of an image are not read
    out, so their own labels, always English, go."""
    styled = (
        chart.properties(width=width, height=height, background="transparent", padding=_padding(left))
        .configure_view(strokeWidth=0)
        .configure_axis(
            labelColor=_FAINT,
            titleColor=_FAINT,
            gridColor=_GRID,
            domainColor=_GRID,
            tickColor=_GRID,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_legend(labelColor=_INK, labelFontSize=12, symbolStrokeWidth=0, symbolOpacity=1, columnPadding=22)
    )
    drawn: str = vl_convert.vegalite_to_svg(styled.to_dict())
    drawn = re.sub(r' (?:aria-label|aria-roledescription|role)="[^"]*"', "", drawn)
    body = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg {} \1 role="img">', drawn, count=1)
    box = re.search(r'viewBox="0 0 ([\d.]+) ', drawn)
    label = f'class="chart" data-width="{float(box[1]):.0f}"' if box else 'class="chart"'
    told = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return body.replace("<svg {}", f"<svg {label}", 1).replace('role="img">', f'role="img">{told}', 1)
