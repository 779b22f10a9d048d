"""How accuracy and robust accuracy went from run to run: runs of the same data under the same threat model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.report.history import HistoryScore, RunRow

SHOWN = 200
"""The newest runs a page shows: more are neither read by a person nor light."""
_CHARTS = 8


@dataclass(frozen=True)
class Point:
    """One model of the run with this number, counted from the oldest, 1."""

    number: int
    level: HistoryScore


@dataclass(frozen=True)
class Trend:
    """One quantity of one data set: `threat` is empty for clean accuracy."""

    data: str
    quantity: str
    threat: str
    points: tuple[Point, ...]


def numbered(rows: Sequence[RunRow]) -> tuple[tuple[int, RunRow], ...]:
    """The newest `SHOWN` of `rows`, oldest first, each with its number among all."""
    return tuple(enumerate(rows, start=1))[-SHOWN:]


def trends(runs: Sequence[tuple[int, RunRow]]) -> tuple[Trend, ...]:
    """What at least two of `runs` measured, the most often measured first; eight at most."""
    points: dict[tuple[str, str, str], list[Point]] = {}
    for number, row in runs:
        for level in row.levels:
            points.setdefault((row.data, level.quantity, level.threat), []).append(Point(number, level))
    found = [Trend(*about, tuple(own)) for about, own in points.items() if len({p.number for p in own}) > 1]
    return tuple(sorted(found, key=lambda trend: -len(trend.points))[:_CHARTS])
