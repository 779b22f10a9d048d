"""From evidence to the numbers of the document: accuracy, robustness, corruptions, explanations, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.core.statistics import Interval, share_of, wilson
from audit.core.threat_format import format_threat
from audit.metrics.classification import confusion, per_class, reliability
from audit.report.further_parts import CurvePoint
from audit.report.schema import (
    AccuracyPart,
    ClassRow,
    CorruptionRow,
    ExplanationPart,
    Gap,
    Mistake,
    OutcomeRow,
    ReliabilityBin,
    RobustnessPart,
    StudyCost,
)
from audit.results.document_model import Cost, Proportion
from audit.results.queries import (
    Condition,
    clean_correct,
    group_by_condition,
    on_clean_images,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.robustness.attack_rows import attack_rows
from audit.topics.robustness.check import inconclusive_reasons

MATRIX_CLASSES = 40
"""More, and nobody reads a confusion matrix: at 1,000 classes it was 3 MB of zeros and 20 MB of page."""
MISTAKES = 100


def share(interval: Interval) -> Proportion:
    """An interval as the document holds it."""
    return Proportion(
        estimate=interval.estimate, low=interval.low, high=interval.high, n=interval.n, method=interval.method
    )


def cost(entries: Sequence[TaskResult]) -> Cost:
    """What `entries` cost together."""
    return Cost(
        forwards=sum(e.evidence.forwards for e in entries), backwards=sum(e.evidence.backwards for e in entries)
    )


def accuracy(dossier: RunResults, role: str, classes: Sequence[str]) -> AccuracyPart | None:
    """Clean accuracy by class with its calibration; None where it was not measured, or labels are predictions."""
    logits = dossier.array("accuracy", "logits", role=role)
    labels = dossier.array("accuracy", "labels", role=role)
    if logits is None or labels is None or not len(labels) or not dossier.labelled:
        return None
    predictions = logits.argmax(axis=1)
    bins = reliability(logits, labels)
    return AccuracyPart(
        role=role,
        accuracy=share(share_of(predictions == labels)),
        per_class=_class_rows(labels, predictions, classes),
        confusion=confusion(labels, predictions, len(classes)).tolist() if len(classes) <= MATRIX_CLASSES else [],
        mistakes=_mistakes(labels, predictions, classes) if len(classes) > MATRIX_CLASSES else [],
        mistaken=int((predictions != labels).sum()),
        calibration_error=bins.error,
        reliability=[
            ReliabilityBin(low=lo, high=hi, count=c, confidence=conf, accuracy=acc)
            for lo, hi, c, conf, acc in zip(
                bins.edges, bins.edges[1:], bins.count, bins.confidence, bins.accuracy, strict=False
            )
        ],
        cost=cost(dossier.entries("accuracy", role=role)),
    )


def _class_rows(labels: Array, predictions: Array, classes: Sequence[str]) -> list[ClassRow]:
    """A row a class with images; no recall is measured of one without: it is absent, not zero."""
    rows = per_class(labels, predictions, len(classes))
    predicted = np.bincount(predictions, minlength=len(classes)).tolist()
    right = np.bincount(labels[predictions == labels], minlength=len(classes)).tolist()
    return [
        ClassRow(
            name=name,
            precision=rows.precision[i],
            recall=rows.recall[i],
            f1=rows.f1[i],
            support=rows.support[i],
            predicted=predicted[i],
            precision_interval=_range(right[i], predicted[i]),
            recall_interval=_range(right[i], int(rows.support[i])),
        )
        for i, name in enumerate(classes)
        if rows.support[i]
    ]


def _range(count: int, whole: int) -> tuple[float, float] | None:
    """Wilson's interval of `count` in `whole`; None of nothing."""
    if not whole:
        return None
    found = wilson(count, whole)
    return found.low, found.high


def _mistakes(labels: Array, predictions: Array, classes: Sequence[str]) -> list[Mistake]:
    """The commonest pairs of a label and another prediction, by count and then in the order of the classes."""
    wrong = predictions != labels
    pairs = Counter(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
    commonest = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:MISTAKES]
    return [Mistake(label=classes[a], prediction=classes[b], count=count) for (a, b), count in commonest]


def robustness(dossier: RunResults, role: str) -> list[RobustnessPart]:
    """One part a battery and threat model, its chunks joined."""
    return [
        _robustness(dossier, role, at, only_measured(entries))
        for at, entries in group_by_condition(dossier.entries("robustness", role=role))
        if only_measured(entries)
    ]


def _robustness(dossier: RunResults, role: str, at: Condition, entries: tuple[TaskResult, ...]) -> RobustnessPart:
    held = np.concatenate([e.evidence.arrays["robust"] for e in entries], axis=1).astype(bool)
    curve = [
        CurvePoint(eps=float(at), robust=share(share_of(row)))
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
        attack_success_rate=_success_rate(dossier, role, entries),
        survive_rounding=_rounding(entries),
        inconclusive=list(inconclusive_reasons(entries)),
        cost=cost(entries),
    )


def _each_once(entries: Sequence[TaskResult], fact: str) -> list[str]:
    return list(dict.fromkeys(str(said) for entry in entries for said in entry.evidence.facts.get(fact, ())))


def _success_rate(dossier: RunResults, role: str, entries: Sequence[TaskResult]) -> Proportion | None:
    """The share broken of the images that were right to begin with."""
    robust = per_example(entries, "robust")
    right = clean_correct(dossier, role).at(robust.positions)
    broken = robust.at(right.positions).values[right.values > 0] == 0
    return share(share_of(broken)) if broken.size else None


def _rounding(entries: Sequence[TaskResult]) -> Proportion | None:
    """The share of adversarial examples that still fool the model when stored with 256 levels."""
    broken = sum(int(e.evidence.facts.get("broken", 0)) for e in entries)
    if not broken:
        return None
    survived = sum(int(e.evidence.facts.get("survive_rounding", 0)) for e in entries)
    return share(share_of(np.arange(broken) < survived))


def corruptions(dossier: RunResults, role: str) -> list[CorruptionRow]:
    """Accuracy by corruption and severity."""
    rows = [
        CorruptionRow(
            role=role,
            name=at.method,
            severity=int(at.setting or 0),
            accuracy=share(share_of(per_example(entries, "correct").values)),
            cost=cost(entries),
        )
        for at, entries in group_by_condition(dossier.entries("corruption", role=role), "severity")
        if only_measured(entries)
    ]
    return sorted(rows, key=lambda row: (row.name, row.severity))


def explanations(dossier: RunResults, role: str) -> list[ExplanationPart]:
    """One row a method on clean images, with the reason where it does not apply."""
    entries = on_clean_images(dossier.entries("explanation", role=role))
    return [_explanation(role, at.method, group) for at, group in group_by_condition(entries)]


def _explanation(role: str, method: str, entries: tuple[TaskResult, ...]) -> ExplanationPart:
    first = entries[0].evidence
    names = [m.name for m in first.measurements]
    return ExplanationPart(
        role=role,
        method=method,
        status=first.status,
        reason=first.reason,
        output=str(first.facts.get("output", "")),
        baseline=_said(first.facts.get("baseline")),
        segments=_said(first.facts.get("segments")),
        settings=dict(first.cell.settings.get("method") or {}),
        quality={name: float(per_example(entries, name).values.mean()) for name in names},
        cost=cost(entries),
        shared=dict(first.facts.get("shared", {})),
    )


def _said(fact: object) -> str:
    return "" if fact is None else str(fact)


def outcome_rows(dossier: RunResults, role: str) -> list[OutcomeRow]:
    """What became of each example, for comparing this run with another one."""
    rows = [_outcome_row(role, "clean", clean_correct(dossier, role).positions, clean_correct(dossier, role).values)]
    for at, entries in group_by_condition(dossier.entries("robustness", role=role)):
        found = per_example(entries, "robust")
        rows.append(_outcome_row(role, f"robust {format_threat(at.norm, at.eps)}", found.positions, found.values))
    return [row for row in rows if row.outcomes]


def _outcome_row(role: str, quantity: str, positions: NDArray[np.int64], values: Array) -> OutcomeRow:
    bits = "".join("1" if value else "0" for value in values)
    return OutcomeRow(role=role, quantity=quantity, start=int(positions[0]) if bits else 0, outcomes=bits)


def gaps(dossier: RunResults) -> list[Gap]:
    """Everything planned that gave no number, with the reason."""
    present = [
        (task, dossier.evidence[task.cell.key]) for task in dossier.plan.tasks if task.cell.key in dossier.evidence
    ]
    found = dict.fromkeys(
        (task.cell.study, task.cell.method, task.role, evidence.status, evidence.reason)
        for task, evidence in present
        if evidence.status != "measured"
    )
    return [Gap(study=s, method=m, role=r, status=status, reason=why) for s, m, r, status, why in found]


def study_costs(dossier: RunResults) -> list[StudyCost]:
    """What each study of each model cost, in plan order."""
    studies = dict.fromkeys((task.cell.study, task.role) for task in dossier.plan.tasks)
    rows = [(study, role, dossier.entries(study, role=role)) for study, role in studies]
    return [StudyCost(study=s, role=r, cells=len(found), cost=cost(found)) for s, r, found in rows if found]
