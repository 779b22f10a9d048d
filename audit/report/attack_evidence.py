"""What holds the attacks to account: their controls, how far images were from breaking, and the search for triggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from audit.report.images import picture_of_floats
from audit.results.document_model import DocumentModel, Picture
from audit.results.queries import group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class ControlRow(DocumentModel):
    """One control of a battery: how many of `n` images went against it; `doubted` where that was too many."""

    role: str
    battery: str
    name: str
    count: int
    n: int
    doubted: bool


class TriggerRow(DocumentModel):
    """The smallest patch found into one class: its area as a share of the image, its anomaly index, and how many of
    `tried` unseen images of other classes it moved. `picture` shows the smallest of each model on grey."""

    role: str
    label: str
    area: float
    anomaly: float
    moved: int
    tried: int
    reached: bool
    picture: Picture | None = None


class DistanceRow(DocumentModel):
    """How far images were from breaking, in the units of eps: quantiles over `n` images, wrong ones at 0. None where
    more images than that were never broken."""

    role: str
    norm: str
    battery: str
    n: int
    unbroken: int
    quantiles: list[float | None]


def controls(dossier: RunResults) -> list[ControlRow]:
    """Every control of every battery, by model."""
    return [
        row
        for role in dossier.roles
        for at, entries in group_by_condition(only_measured(dossier.entries("attack-controls", role=role)))
        for row in _controls(role, at.method, entries)
    ]


def triggers(dossier: RunResults, *, pictures: bool) -> list[TriggerRow]:
    """Every class of every model that was searched, the smallest patch first."""
    return [
        row
        for role in dossier.roles
        for entry in only_measured(dossier.entries("backdoor", role=role))
        for row in _triggers(role, entry, pictures)
    ]


def distances(dossier: RunResults) -> list[DistanceRow]:
    """The smallest distance at which each image was verified to break, by model and norm."""
    return [
        _distances(role, at.norm, at.method, entries)
        for role in dossier.roles
        for at, entries in group_by_condition(only_measured(dossier.entries("robustness", role=role)))
    ]


def _controls(role: str, battery: str, entries: Sequence[TaskResult]) -> Iterator[ControlRow]:
    doubted = {doubt["name"] for entry in entries for doubt in entry.evidence.facts["suspicions"]}
    for measurement in entries[0].evidence.measurements:
        values = per_example(entries, measurement.name).values
        yield ControlRow(
            role=role,
            battery=battery,
            name=measurement.name,
            count=int((values > 0).sum()),
            n=values.size,
            doubted=measurement.name in doubted,
        )


def _triggers(role: str, entry: TaskResult, pictures: bool) -> Iterator[TriggerRow]:
    rows: Sequence[Mapping[str, Any]] = entry.evidence.facts["triggers"]
    for place, label in enumerate(sorted(range(len(rows)), key=lambda k: float(rows[k]["area"]))):
        given = {("label" if name == "class" else name): value for name, value in rows[label].items()}
        shown = _patch(entry, label) if pictures and place == 0 else None
        yield TriggerRow(role=role, picture=shown, **given)


def _patch(entry: TaskResult, label: int) -> Picture:
    opacity = entry.evidence.arrays["masks"][label][None]
    return picture_of_floats(opacity * entry.evidence.arrays["patterns"][label] + (1 - opacity) * 0.5)


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
