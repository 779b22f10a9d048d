"""What the report shows of refusal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import altair as alt
from markupsafe import Markup

from audit.core.evidence import Finding
from audit.document.charts import series_colour, series_shape, share_axis, share_x_axis, svg_chart
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.refusal.section import CalibrationRow, ConformalRow, OutsideRow, RiskRow

CHECKED_SETS = "APS"
"""The method of sets that the table by corruption shows; of the others, clean images alone."""


@dataclass(frozen=True)
class RefusalView:
    """What the template shows.

    Attributes:
        chart: Risk against coverage; empty where it was not measured.
        clean_sets: The sets of every method on clean images.
        shifted_sets: Those of one method on corrupted images, the lowest coverage first.
        outside: Of foreign and attacked images, by what they are and by model, the row of each score.
        worn: The same of corrupted images.
        scores: The scores.
        calibration: Calibration under corruptions by name and model, by severity.
        severities: The severities.
    """

    chart: Markup
    clean_sets: tuple[ConformalRow, ...]
    shifted_sets: tuple[ConformalRow, ...]
    outside: tuple[tuple[OutsideRow, dict[str, OutsideRow]], ...]
    worn: tuple[tuple[OutsideRow, dict[str, OutsideRow]], ...]
    scores: tuple[str, ...]
    calibration: tuple[tuple[str, str, dict[int, CalibrationRow]], ...]
    severities: tuple[int, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> RefusalView:
    """The chart and the tables.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    risks, sets = document.rows(RiskRow), document.rows(ConformalRow)
    outside, calibration = document.rows(OutsideRow), document.rows(CalibrationRow)
    shifted = [row for row in sets if row.severity and row.method == CHECKED_SETS]
    lines = dict.fromkeys((row.name, row.role) for row in calibration)
    return RefusalView(
        Markup(risk_chart(risks, locale)) if risks else Markup(),
        tuple(row for row in sets if not row.severity),
        tuple(sorted(shifted, key=lambda row: row.coverage.estimate)),
        tuple(_by_score([row for row in outside if row.kind != "corrupted"])),
        tuple(_by_score([row for row in outside if row.kind == "corrupted"])),
        tuple(dict.fromkeys(row.score for row in outside)),
        tuple(
            (name, role, {row.severity: row for row in calibration if (row.name, row.role) == (name, role)})
            for name, role in sorted(lines, key=lambda line: line[0])
        ),
        tuple(sorted({row.severity for row in calibration})),
    )


def _by_score(rows: Sequence[OutsideRow]) -> Iterator[tuple[OutsideRow, dict[str, OutsideRow]]]:
    """The rows of each kind of images and model, the models of one kind together."""
    for images in dict.fromkeys(row.images for row in rows):
        for role in dict.fromkeys(row.role for row in rows if row.images == images):
            of_both = [row for row in rows if (row.images, row.role) == (images, role)]
            yield of_both[0], {row.score: row for row in of_both}


def risk_chart(risks: Sequence[RiskRow], locale: Locale) -> str:
    """An SVG chart of the share of errors against the share of predictions that is kept, one line a model.

    Args:
        risks: Risk against coverage of each model.
        locale: The reader's language.
    """
    points = [
        {
            "x": coverage,
            "y": risk,
            "series": locale.name("role", row.role),
            "marked": rank % (len(row.curve) // 5 + 1) == 0,
        }
        for row in risks
        for rank, (coverage, risk) in enumerate(row.curve)
    ]
    colour = series_colour([locale.name("role", row.role) for row in risks])
    highest = max(1, math.ceil(4 * max(risk for row in risks for _, risk in row.curve))) / 4
    base = alt.Chart(alt.Data(values=points)).encode(
        x=share_x_axis(locale("refusal.axis_coverage")),
        y=share_axis(locale, "y:Q", "refusal.axis_risk").scale(domain=[0, highest]),
        color=colour,
    )
    marks = base.transform_filter("datum.marked").mark_point(filled=True, size=42, opacity=1)

    description = " ".join(
        locale("refusal.chart_told", role=locale.name("role", row.role), aurc=f"{row.aurc:.4f}") for row in risks
    )
    chart = base.mark_line(strokeWidth=2) + marks.encode(shape=series_shape(colour))
    return svg_chart(chart, locale("refusal.chart_title"), description, width=300, height=240)
