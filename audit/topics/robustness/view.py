"""What the report shows of robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import FAINT, interval_band, series_colour, series_shape, share_axis, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.certification.facts import THE_MODEL
from audit.topics.certification.section import CertificatePart
from audit.topics.robustness.section import RobustnessPart


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> Markup:
    """The curve of every model, one chart a norm, since eps of different norms share no axis.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    norms = dict.fromkeys(part.norm for part in document.rows(RobustnessPart))
    return Markup("".join(_chart(document, norm, locale) for norm in norms))


def _chart(document: AuditDocument, norm: str, locale: Locale) -> str:
    """The curve of every model under one norm, with what is proven of the models themselves."""
    parts = [part for part in document.rows(RobustnessPart) if part.norm == norm]
    proofs = [p for p in document.rows(CertificatePart) if p.norm == norm and p.certifies == THE_MODEL]
    return robustness_chart(parts, locale, proofs)


def robustness_chart(parts: Sequence[RobustnessPart], locale: Locale, proofs: Sequence[CertificatePart] = ()) -> str:
    """An SVG chart of robust accuracy against eps, one line per model with its 95% band.

    The eps of the verdict is marked. Certified accuracy of the same models is a dotted line; the true robust accuracy
    lies between both.

    Args:
        parts: Robust accuracy of each model under one norm.
        locale: The reader's language.
        proofs: Certified accuracy of each model under that norm.
    """
    rows = [
        {"x": point.eps, **interval_band(point.robust), "series": locale.name("role", part.role)}
        for part in parts
        for point in part.curve
    ]
    x = alt.X("x:Q", title=locale("robustness.axis_eps", norm=parts[0].norm), axis=_eps_axis(parts))
    colour = series_colour([locale.name("role", part.role) for part in parts])
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.18).encode(y=share_axis(locale), y2="high:Q", x=x)
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("y:Q"))
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=alt.Y("y:Q"), shape=series_shape(colour))
    rule = alt.Chart(alt.Data(values=[{"x": parts[0].eps}])).mark_rule(strokeDash=[4, 3], color=FAINT).encode(x="x:Q")
    proven = [
        {"x": point.eps, "y": point.robust.estimate, "series": locale.name("role", part.role)}
        for part in proofs
        for point in part.curve
    ]
    below = alt.Chart(alt.Data(values=proven)).mark_line(strokeDash=[2, 3]).encode(x=x, y=alt.Y("y:Q"), color=colour)
    return svg_chart(
        band + rule + line + dots + below if proven else band + rule + line + dots,
        locale("robustness.chart_title", norm=parts[0].norm),
        " ".join([*(_describe(p, locale) for p in parts), *(_describe_proof(p, locale) for p in proofs)]),
    )


def _eps_axis(parts: Sequence[RobustnessPart]) -> alt.Axis:
    """A tick where something was measured."""
    values = sorted({0.0, *(point.eps for part in parts for point in part.curve)})
    return alt.Axis(grid=False, values=values, format="~g", labelOverlap="greedy", labelSeparation=6, labelFlush=False)


def _describe(part: RobustnessPart, locale: Locale) -> str:
    points = "; ".join(f"{p.eps:.4g}: {p.robust.estimate:.1%}" for p in part.curve)
    return f"{locale.name('role', part.role)}: {points}."


def _describe_proof(part: CertificatePart, locale: Locale) -> str:
    points = "; ".join(f"{p.eps:.4g}: {p.robust.estimate:.1%}" for p in part.curve)
    return f"{locale.name('role', part.role)}, {locale('certificates.proven')}: {points}."
