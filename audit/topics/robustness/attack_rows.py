"""What each attack of a battery did, over all eps and all chunks of examples, as one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audit.report.schema import AttackRow
from audit.results.document_model import Cost
from audit.results.run_results import TaskResult

_WITHIN = 1 + 1e-6


def attack_rows(entries: Sequence[TaskResult], eps: float) -> list[AttackRow]:
    """One line an attack. `tried`: images it was given at any eps; `broke`: those it broke first at `eps` or less.

    A curve is swept upward, so an image broken at a small eps is not attacked again at a larger one.
    """
    names = dict.fromkeys(str(row["name"]) for entry in entries for row in _rows(entry))
    return [_line(name, entries, eps) for name in names]


def _line(name: str, entries: Sequence[TaskResult], eps: float) -> AttackRow:
    chunks = [[row for row in _rows(entry) if row["name"] == name] for entry in entries]
    rows = [row for chunk in chunks for row in chunk]
    return AttackRow(
        name=name,
        settings=dict(rows[0].get("settings", {})),
        tried=sum(max((int(row["tried"]) for row in chunk), default=0) for chunk in chunks),
        broke=sum(int(row["broke"]) for row in rows if float(row.get("eps", eps)) <= eps * _WITHIN),
        faults=sum(int(row.get("faults", 0)) for row in rows),
        cost=Cost(
            forwards=sum(int(row.get("forwards", 0)) for row in rows),
            backwards=sum(int(row.get("backwards", 0)) for row in rows),
        ),
        reason=next((str(row["reason"]) for row in rows if row.get("reason")), ""),
    )


def _rows(entry: TaskResult) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = entry.evidence.facts.get("rows", ())
    return rows
