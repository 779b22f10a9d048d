"""The general table of the document: every measurement of a study beside its controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from audit.core.evidence import Array, Better, Measurement
from audit.core.statistics import bootstrap_mean
from audit.core.threat_format import format_threat
from audit.core.topic import topics
from audit.document.model import DocumentModel
from audit.planning.parts import whole_study
from audit.results.queries import (
    Condition,
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult

CONTROLS = ("random", "centre", "edges", "blurred")
"""Suffixes of the names of control measurements: the same quantity of a map that does not depend on the model."""


class MeasuredRow(DocumentModel):
    """The mean of one measurement with its 95% interval, beside the means of its controls.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        method: Name of the method.
        condition: The setting or the threat model it was measured under, where the study has several; else empty.
        name: Name of the measurement.
        unit: Its unit.
        better: Which direction is good.
        mean: Mean over the examples that have a value, in `unit`.
        low: Lower bound of its 95% bootstrap interval.
        high: Upper bound.
        n: Number of examples that have a value.
        controls: By control, its mean.
    """

    study: str
    role: str
    method: str
    condition: str
    name: str
    unit: str
    better: Better
    mean: float
    low: float
    high: float
    n: int
    controls: dict[str, float] = Field(default_factory=dict)


def measures(results: RunResults) -> list[MeasuredRow]:
    """Every measurement of the topics that declare `Topic.measures`, by study and model, over all cells.

    Args:
        results: The run.
    """
    general = {whole_study(study) for topic in topics() if topic.measures for study in topic.studies}
    studies = dict.fromkeys(task.cell.study for task in results.plan.tasks if task.cell.study in general)
    return [
        row
        for study in studies
        for role in results.roles
        for at, entries in group_by_condition(only_measured(results.entries(study, role=role)), "kind")
        for row in _rows(study, role, at, entries)
    ]


def controls_of(name: str, entries: Sequence[TaskResult]) -> dict[str, float]:
    """The mean of each control of a measurement.

    Args:
        name: Name of the measurement.
        entries: Measured cells of one study, model and condition.

    Returns:
        By control, its mean over the examples that have a value.
    """
    values_of = {
        control: _finite(per_example(entries, f"{name}_{control}").values) for control in _present(name, entries)
    }
    return {control: float(values.mean()) for control, values in values_of.items() if values.size}


def _rows(study: str, role: str, at: Condition, entries: Sequence[TaskResult]) -> Iterator[MeasuredRow]:
    for measurement in _bases(entries):
        values = _finite(per_example(entries, measurement.name).values)
        if not values.size:
            continue
        interval = bootstrap_mean(values)
        yield MeasuredRow(
            study=study,
            role=role,
            method=at.method,
            condition=str(at.setting or (format_threat(at.norm, at.eps) if at.norm else "")),
            name=measurement.name,
            unit=measurement.unit,
            better=measurement.better,
            mean=interval.estimate,
            low=interval.low,
            high=interval.high,
            n=interval.n,
            controls=controls_of(measurement.name, entries),
        )


def _bases(entries: Sequence[TaskResult]) -> list[Measurement]:
    """The measurements that are no control of another one."""
    by_name = {m.name: m for m in entries[0].evidence.measurements}
    return [m for name, m in by_name.items() if not any(name == f"{n}_{c}" for n in by_name for c in CONTROLS)]


def _present(name: str, entries: Sequence[TaskResult]) -> list[str]:
    names = {m.name for m in entries[0].evidence.measurements}
    return [control for control in CONTROLS if f"{name}_{control}" in names]


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]
