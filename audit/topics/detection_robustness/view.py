"""What the report shows of attacks on detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import FAINT, interval_band, series_colour, series_shape, share_axis, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.detection_accuracy.section import DetectionPicture
from audit.topics.detection_accuracy.view import ERROR_KINDS
from audit.topics.detection_robustness.section import DetectionAttackPart


@dataclass(frozen=True)
class DetectionAttackView:
    """What the template shows.

    Attributes:
        chart: mAP against eps.
        kinds: The kinds of error that occur under some attack.
        galleries: By aim and role, the attacked pictures.
    """

    chart: Markup
    kinds: tuple[str, ...]
    galleries: tuple[tuple[str, tuple[DetectionPicture, ...]], ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> DetectionAttackView:
    """The curve, the kinds of error, and the pictures by aim.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    parts = document.rows(DetectionAttackPart)
    pictures: Sequence[DetectionPicture] = getattr(document, "detection_attack_pictures", [])
    aims = [part_aim for part in parts for part_aim in part.aims]
    kinds = tuple(kind for kind in ERROR_KINDS if any(aim.outcomes.get(kind) for aim in aims))
    names = dict.fromkeys(aim.name for aim in aims)
    galleries = ((name, tuple(p for p in pictures if p.kinds == [name])) for name in names)
    return DetectionAttackView(
        Markup(curve_of_map(parts, locale)), kinds, tuple((name, shown) for name, shown in galleries if shown)
    )


def curve_of_map(parts: Sequence[DetectionAttackPart], locale: Locale) -> str:
    """An SVG chart of mAP under attack against eps, one line a detector with its 95% band.

    Args:
        parts: The detectors, attacked under one norm.
        locale: The reader's language.
    """
    rows = [
        {"x": point.eps, **interval_band(point.robust), "series": locale.name("role", part.role)}
        for part in parts
        for point in part.curve
    ]
    ticks = sorted({point.eps for part in parts for point in part.curve})
    axis = alt.Axis(grid=False, values=ticks, format=".3~g", labelOverlap="greedy", labelSeparation=6, labelFlush=False)
    x = alt.X("x:Q", title=locale("robustness.axis_eps", norm=parts[0].norm), axis=axis)
    colour = series_colour([locale.name("role", part.role) for part in parts])
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    y = share_axis(locale, title="detection_robustness.axis_map")
    band = base.mark_area(opacity=0.18).encode(y=y, y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("y:Q"))
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=alt.Y("y:Q"), shape=series_shape(colour))
    rule = alt.Chart(alt.Data(values=[{"x": parts[0].eps}])).mark_rule(strokeDash=[4, 3], color=FAINT).encode(x="x:Q")
    told = " ".join(
        f"{locale.name('role', part.role)}: " + "; ".join(f"{p.eps:.4g}: {p.robust.estimate:.3f}" for p in part.curve)
        for part in parts
    )
    return svg_chart(band + rule + line + dots, locale("detection_robustness.chart_title", norm=parts[0].norm), told)
