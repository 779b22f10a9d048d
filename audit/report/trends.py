"""Accuracy or mAP, clean and under attack, from run to run, for runs on the same data under the same threat model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from audit.document.charts import interval_band, series_colour, series_shape, share_axis, svg_chart
from audit.document.locale import Locale
from audit.report.history import HistoryScore, RunRow

MAX_RUNS = 200
"""Most runs on a page; the oldest are left out."""
_MAX_CHARTS = 8


@dataclass(frozen=True)
class Point:
    """One model of one run in a trend.

    Attributes:
        number: Number of the run, the oldest being 1.
        level: Its accuracy.
    """

    number: int
    level: HistoryScore


@dataclass(frozen=True)
class Trend:
    """One quantity over runs on one data set.

    Attributes:
        data: Description of the data.
        quantity: "clean" or "robust".
        threat: The threat model in words; empty for clean images.
        measure: "accuracy" or "map".
        points: One per run and model, the oldest first.
    """

    data: str
    quantity: str
    threat: str
    measure: str
    points: tuple[Point, ...]

    def title(self, locale: Locale) -> str:
        """What is measured, in a reader's words.

        Args:
            locale: The reader's language.
        """
        if self.measure == "map":
            key = "detection_comparison.attack" if self.threat else "detection_comparison.clean"
        else:
            key = "comparison.robust" if self.threat else "comparison.clean"
        return locale(key, threat=self.threat)


def numbered(rows: Sequence[RunRow]) -> tuple[tuple[int, RunRow], ...]:
    """The newest `MAX_RUNS` runs, the oldest first, each with its number among all.

    Args:
        rows: All runs, the oldest first.
    """
    return tuple(enumerate(rows, start=1))[-MAX_RUNS:]


def trends(runs: Sequence[tuple[int, RunRow]]) -> tuple[Trend, ...]:
    """The quantities that at least two runs measured, the most often measured first; at most `_MAX_CHARTS`.

    Args:
        runs: Runs with their numbers.
    """
    points: dict[tuple[str, str, str, str], list[Point]] = {}
    for number, row in runs:
        for level in row.levels:
            points.setdefault((row.data, level.quantity, level.threat, level.measure), []).append(Point(number, level))
    repeated = [Trend(*key, tuple(group)) for key, group in points.items() if len({p.number for p in group}) > 1]
    return tuple(sorted(repeated, key=lambda trend: -len(trend.points))[:_MAX_CHARTS])


def trend_chart(trend: Trend, locale: Locale) -> str:
    """An SVG chart of one quantity from run to run: one line per model, each point with its interval.

    Args:
        trend: The quantity.
        locale: The reader's language.
    """
    rows = [
        {"x": point.number, **interval_band(point.level), "series": locale.name("role", point.level.role)}
        for point in trend.points
    ]
    colour = series_colour([str(row["series"]) for row in rows])
    axis = alt.Axis(
        grid=False, values=sorted({point.number for point in trend.points}), format="d", labelOverlap="greedy"
    )
    x = alt.X("x:Q", title=locale("history.axis"), axis=axis, scale=alt.Scale(zero=False, nice=False, padding=12))
    title = "detection_robustness.axis_map" if trend.measure == "map" else "charts.share_right"
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    intervals = base.mark_rule(opacity=0.55, strokeWidth=2).encode(y=share_axis(locale, title=title), y2="high:Q", x=x)
    line = base.mark_line(strokeWidth=1.5, opacity=0.7).encode(y=alt.Y("y:Q"))
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=alt.Y("y:Q"), shape=series_shape(colour))
    number = ".3f" if trend.measure == "map" else ".1%"
    description = "; ".join(f"{row['x']}, {row['series']}: {row['y']:{number}}" for row in rows)
    return svg_chart(intervals + line + dots, trend.title(locale), description, width=560, height=200)
