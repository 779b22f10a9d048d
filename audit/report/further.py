"""What other studies measured: any measurement beside its controls, planted places, the tool's own calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from audit.core.evidence import Array, Measurement
from audit.core.statistics import bootstrap_mean, clopper_pearson
from audit.core.threat_format import format_threat
from audit.report.further_parts import AgreementPart, CertificatePart, CurvePoint, MeasuredRow, OracleRow, ShortcutRow
from audit.results.document_model import Proportion
from audit.results.queries import Condition, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

CONTROLS = ("random", "centre", "edges", "blurred")
"""Endings of a measurement's name that mark the same thing measured on something that knows nothing of the model."""
_TOLD_ELSEWHERE = frozenset(
    "training accuracy robustness certification attack-controls backdoor corruption explanation faithfulness "
    "controls sanity calibration-of-the-tool further-threats surrogate int8-engine".split()
)


def measures(dossier: RunResults) -> list[MeasuredRow]:
    """Every measurement of the studies that have no section of their own, chunks joined, by study and model."""
    studies = dict.fromkeys(task.cell.study for task in dossier.plan.tasks if task.cell.study not in _TOLD_ELSEWHERE)
    return [
        row
        for study in studies
        for role in dossier.roles
        for at, entries in group_by_condition(only_measured(dossier.entries(study, role=role)), "kind")
        for row in _rows(study, role, at, entries)
    ]


def controls_of(name: str, entries: Sequence[TaskResult]) -> dict[str, float]:
    """The mean of each control of the measurement `name`."""
    found = {control: _finite(per_example(entries, f"{name}_{control}").values) for control in _present(name, entries)}
    return {control: float(values.mean()) for control, values in found.items() if values.size}


def shortcuts(dossier: RunResults) -> list[ShortcutRow]:
    """Each place found to decide a class on its own."""
    return [
        ShortcutRow(
            role=entry.task.role, method=entry.task.cell.method, **{_COLUMNS.get(k, k): v for k, v in row.items()}
        )
        for entry in only_measured(dossier.entries("shortcuts"))
        for row in entry.evidence.facts.get("shortcuts", ())
    ]


def agreements(dossier: RunResults) -> list[AgreementPart]:
    """Which methods of each model agree with which."""
    return [
        AgreementPart(
            role=entry.task.role,
            methods=list(entry.evidence.facts["methods"]),
            matrix=[[float(v) if np.isfinite(v) else None for v in row] for row in entry.evidence.arrays["matrix"]],
            left_out=list(entry.evidence.facts.get("left_out", ())),
            n=entry.task.examples.stop - entry.task.examples.start,
        )
        for entry in only_measured(dossier.entries("agreement"))
    ]


def certificates(dossier: RunResults, eps: Mapping[str, Sequence[float]]) -> list[CertificatePart]:
    """The share proven robust at each eps of the norm's curve: a lower bound, with the exact interval of its share."""
    parts = []
    for role in dossier.roles:
        for at, entries in group_by_condition(only_measured(dossier.entries("certification", role=role))):
            facts, radius = entries[0].evidence.facts, per_example(entries, "certified_radius").values
            norm = str(facts["norm"])
            sizes = sorted(set(eps.get(norm, ())) | ({at.eps} if at.eps else set()))
            parts.append(
                CertificatePart(
                    role=role,
                    method=at.method,
                    norm=norm,
                    certifies=str(facts["certifies"]),
                    curve=[CurvePoint(eps=size, robust=_certified(radius, size)) for size in sizes],
                    median_radius=float(np.median(radius)),
                    abstained=sum(int(e.evidence.facts.get("abstained", 0)) for e in entries),
                    n=radius.size,
                )
            )
    return parts


def _certified(radius: Array, eps: float) -> Proportion:
    found = clopper_pearson(int((radius > eps).sum()), radius.size)
    return Proportion(estimate=found.estimate, low=found.low, high=found.high, n=found.n, method=found.method)


def oracles(dossier: RunResults) -> list[OracleRow]:
    """Each problem with a known answer that the tool solved on this device."""
    rows = (
        row for e in only_measured(dossier.entries("calibration-of-the-tool")) for row in e.evidence.facts["oracles"]
    )
    return [OracleRow.model_validate(row) for row in rows]


_COLUMNS = {"class": "label"}


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
    known = {m.name: m for m in entries[0].evidence.measurements}
    return [m for name, m in known.items() if not any(name == f"{n}_{c}" for n in known for c in CONTROLS)]


def _present(name: str, entries: Sequence[TaskResult]) -> list[str]:
    known = {m.name for m in entries[0].evidence.measurements}
    return [control for control in CONTROLS if f"{name}_{control}" in known]


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]
