"""Robust accuracy under attack, as the document holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from audit.core.statistics import share_of
from audit.document.model import Cost, CurvePoint, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    Condition,
    clean_correct,
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.robustness.check import inconclusive_reasons

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_WITHIN = 1 + 1e-6


class AttackRow(DocumentModel):
    """One attack of the battery: what it was given, what it broke first, its cost; `reason` why it did not run."""

    name: str
    settings: dict[str, Any]
    tried: int
    broke: int
    faults: int
    cost: Cost
    reason: str = ""


class RobustnessPart(DocumentModel):
    """One model under one norm."""

    role: str
    norm: str
    eps: float
    battery: str
    protocol: str = ""
    notes: list[str] = Field(default_factory=list)
    curve: list[CurvePoint]
    attacks: list[AttackRow]
    attack_success_rate: Proportion | None
    survive_rounding: Proportion | None
    inconclusive: list[str]
    cost: Cost


class DistanceRow(DocumentModel):
    """How far images were from breaking, in the units of eps: quantiles over `n` images, wrong ones at 0. None where
    more images than that were never broken."""

    role: str
    norm: str
    battery: str
    n: int
    unbroken: int
    quantiles: list[float | None]


def build(results: RunResults, context: SectionContext) -> Rows:
    """A part a model, battery and threat model, and how far images were from breaking."""
    return {
        "robustness": [part for role in context.roles for part in _parts(results, role)],
        "distances": _all_distances(results),
    }


def _parts(results: RunResults, role: str) -> list[RobustnessPart]:
    """One part a battery and threat model, its chunks joined."""
    return [
        _robustness(results, role, at, only_measured(entries))
        for at, entries in group_by_condition(results.entries("robustness", role=role))
        if only_measured(entries)
    ]


def _robustness(results: RunResults, role: str, at: Condition, entries: tuple[TaskResult, ...]) -> RobustnessPart:
    held = np.concatenate([e.evidence.arrays["robust"] for e in entries], axis=1).astype(bool)
    curve = [
        CurvePoint(eps=float(at), robust=proportion(share_of(row)))
        for at, row in zip(entries[0].evidence.facts["eps"], held, strict=True)
    ]
    return RobustnessPart(
        role=role,
        norm=at.norm,
        eps=at.eps,
        battery=at.method,
        protocol=str(entries[0].evidence.facts.get("protocol", "")),
        notes=_each_once(entries, "notes"),
        curve=sorted(curve, key=lambda point: point.eps),
        attacks=attack_rows(entries, at.eps),
        attack_success_rate=_success_rate(results, role, entries),
        survive_rounding=_rounding(entries),
        inconclusive=list(inconclusive_reasons(entries)),
        cost=cost_of(entries),
    )


def _each_once(entries: Sequence[TaskResult], fact: str) -> list[str]:
    return list(dict.fromkeys(str(said) for entry in entries for said in entry.evidence.facts.get(fact, ())))


def _success_rate(results: RunResults, role: str, entries: Sequence[TaskResult]) -> Proportion | None:
    """The share broken of the images that were right to begin with."""
    robust = per_example(entries, "robust")
    right = clean_correct(results, role).at(robust.positions)
    broken = robust.at(right.positions).values[right.values > 0] == 0
    return proportion(share_of(broken)) if broken.size else None


def _rounding(entries: Sequence[TaskResult]) -> Proportion | None:
    """The share of adversarial examples that still fool the model when stored with 256 levels."""
    broken = sum(int(e.evidence.facts.get("broken", 0)) for e in entries)
    if not broken:
        return None
    survived = sum(int(e.evidence.facts.get("survive_rounding", 0)) for e in entries)
    return proportion(share_of(np.arange(broken) < survived))


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


def _all_distances(results: RunResults) -> list[DistanceRow]:
    """The smallest distance at which each image was verified to break, by model and norm."""
    return [
        _distances(role, at.norm, at.method, entries)
        for role in results.roles
        for at, entries in group_by_condition(only_measured(results.entries("robustness", role=role)))
    ]


def _distances(role: str, norm: str, battery: str, entries: Sequence[TaskResult]) -> DistanceRow:
    values = np.concatenate([np.asarray(e.evidence.arrays["minimal_eps"], np.float64) for e in entries])
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    return DistanceRow(
        role=role,
        norm=norm,
        battery=battery,
        n=values.size,
        unbroken=int(np.isinf(values).sum()),
        quantiles=[float(one) if np.isfinite(one) else None for one in found],
    )
