"""Robust accuracy under attack: rows of the document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from audit.core.note import NO_NOTE, Note
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
from audit.results.stopping import share_of_entries
from audit.topics.robustness.check import inconclusive_reasons
from audit.topics.robustness.facts import PART_STUDIES, RobustnessFacts

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_WITHIN = 1 + 1e-6


class AttackRow(DocumentModel):
    """One attack of the battery, over all cells and eps.

    Attributes:
        name: What the report calls it.
        settings: All of its settings.
        tried: Images it was given at any eps.
        broke: Those it broke first at the eps of the verdict or a smaller one.
        faults: Proposals that left the ball or the box, or were not finite.
        cost: What it cost.
        reason: Why it did not run; empty where it did.
    """

    name: str
    settings: dict[str, Any]
    tried: int
    broke: int
    faults: int
    cost: Cost
    reason: Note = NO_NOTE


class RuntimeVerdicts(DocumentModel):
    """How many verdicts hang on the runtime: where the largest margin met is smaller than rounding.

    A margin is the highest logit that counts as broken less the highest that does not, at the clean image and at every
    verified image within the eps of the verdict.

    Attributes:
        n: Images whose margin is known.
        broken: Those of them that read broken by a margin within rounding.
        unbroken: Those that read unbroken by a margin within rounding.
        rounding: How far a margin may move in another runtime of the same net, in logits: the largest of the cells.
        nearest: The smallest absolute margin of any image, in logits.
    """

    n: int
    broken: int
    unbroken: int
    rounding: float
    nearest: float

    @property
    def within(self) -> int:
        """Verdicts within rounding."""
        return self.broken + self.unbroken


class RobustnessPart(DocumentModel):
    """Robust accuracy of one model under one battery and norm.

    Attributes:
        role: Role of the model.
        norm: Norm of the ball.
        eps: The eps of the verdict, in units of the pixel range [0, 1].
        battery: Name of the battery.
        protocol: The battery in words.
        notes: What the reader should know.
        curve: Robust accuracy at each eps, ascending.
        attacks: One row per attack of the battery.
        attack_success_rate: Share broken of the images that were right before; None where there are none.
        survive_rounding: Share of adversarial images that are still adversarial with 256 levels; None where there are
            none.
        runtime: How many verdicts hang on the runtime; None where that is not known.
        inconclusive: Why the evidence is weak, in sentences; empty when it is not.
        cost: What it cost.
    """

    role: str
    norm: str
    eps: float
    battery: str
    protocol: str = ""
    notes: list[Note] = Field(default_factory=list)
    curve: list[CurvePoint]
    attacks: list[AttackRow]
    attack_success_rate: Proportion | None
    survive_rounding: Proportion | None
    runtime: RuntimeVerdicts | None = None
    inconclusive: list[Note]
    cost: Cost


class DistanceRow(DocumentModel):
    """Quantiles of the smallest distance at which images break.

    Attributes:
        role: Role of the model.
        norm: Norm of the distance.
        battery: Name of the battery.
        n: Number of images; wrong ones have distance 0.
        unbroken: Images that were never broken.
        quantiles: The distance at each of `QUANTILES`, in units of the pixel range; None where too many images were
            never broken.
    """

    role: str
    norm: str
    battery: str
    n: int
    unbroken: int
    quantiles: list[float | None]


def build(results: RunResults, context: SectionContext) -> Rows:
    """One row per model, battery and threat model, and the distances at which images break.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {
        "robustness": [part for role in context.roles for part in _rows(results, role)],
        "distances": _all_distances(results),
    }


def _rows(results: RunResults, role: str) -> list[RobustnessPart]:
    """One part a battery and threat model, its chunks joined."""
    return [
        _robustness(results, role, at, only_measured(entries))
        for at, entries in group_by_condition(results.entries("robustness", role=role))
        if only_measured(entries)
    ]


def _robustness(results: RunResults, role: str, at: Condition, entries: tuple[TaskResult, ...]) -> RobustnessPart:
    robust = np.concatenate([e.evidence.arrays["robust"] for e in entries], axis=1).astype(bool)
    facts = [entry.evidence.facts_as(RobustnessFacts) for entry in entries]
    curve = [
        CurvePoint(eps=eps, robust=proportion(share_of_entries(results, entries, row)))
        for eps, row in zip(facts[0].eps, robust, strict=True)
    ]
    return RobustnessPart(
        role=role,
        norm=at.norm,
        eps=at.eps,
        battery=at.method,
        protocol=facts[0].protocol,
        notes=list(dict.fromkeys(note for chunk in facts for note in chunk.notes)),
        curve=sorted(curve, key=lambda point: point.eps),
        attacks=attack_rows(facts, at.eps),
        attack_success_rate=_success_rate(results, role, entries),
        survive_rounding=_rounding(results, entries, facts),
        runtime=runtime_verdicts(entries),
        inconclusive=list(inconclusive_reasons(entries)),
        cost=cost_of([*entries, *_parts(results, role, at)]),
    )


def _parts(results: RunResults, role: str, at: Condition) -> tuple[TaskResult, ...]:
    """The cells that those of one battery and threat model were joined from; none where each ran the battery itself."""
    parts = (entry for study in PART_STUDIES for entry in results.entries(study, role=role))
    threat = {"norm": at.norm, "eps": at.eps}
    return tuple(entry for entry in parts if entry.task.cell.threat == threat)


def _success_rate(results: RunResults, role: str, entries: Sequence[TaskResult]) -> Proportion | None:
    """The share broken of the images that were right to begin with."""
    robust = per_example(entries, "robust")
    right = clean_correct(results, role).at(robust.positions)
    broken = robust.at(right.positions).values[right.values > 0] == 0
    return proportion(share_of_entries(results, entries, broken)) if broken.size else None


def _rounding(
    results: RunResults, entries: Sequence[TaskResult], facts: Sequence[RobustnessFacts]
) -> Proportion | None:
    """The share of adversarial examples that still fool the model when stored with 256 levels."""
    broken = sum(chunk.broken for chunk in facts)
    if not broken:
        return None
    survived = sum(chunk.survive_rounding for chunk in facts)
    return proportion(share_of_entries(results, entries, np.arange(broken) < survived))


def runtime_verdicts(entries: Sequence[TaskResult]) -> RuntimeVerdicts | None:
    """How many verdicts lie within the rounding of another runtime.

    Args:
        entries: Cells of one model, battery and threat model.

    Returns:
        None where no cell knows its margins and their rounding, as those of earlier versions.
    """
    margins, robust, roundings = [], [], []
    for entry in entries:
        evidence = entry.evidence
        allowance = evidence.facts_as(RobustnessFacts).runtime_rounding
        if allowance is not None and "margin" in evidence.arrays:
            margins.append(np.abs(evidence.arrays["margin"].astype(np.float64)))
            robust.append(evidence.measurement("robust").per_example > 0)
            roundings.append(np.full(len(margins[-1]), allowance))
    if not margins:
        return None
    margin, unbroken, rounding = (np.concatenate(column) for column in (margins, robust, roundings))
    within = margin <= rounding
    return RuntimeVerdicts(
        n=margin.size,
        broken=int((within & ~unbroken).sum()),
        unbroken=int((within & unbroken).sum()),
        rounding=float(rounding.max()),
        nearest=float(margin.min()),
    )


def attack_rows(facts: Sequence[RobustnessFacts], eps: float) -> list[AttackRow]:
    """One line an attack. A curve is swept upward: an image broken at a small eps is not attacked at a larger one.

    Args:
        facts: Of the cells of one model, battery and threat model.
        eps: Those an attack broke first at this eps or a smaller one are counted.
    """
    names = dict.fromkeys(attack.name for chunk in facts for attack in chunk.rows)
    return [_attack_row(name, facts, eps) for name in names]


def _attack_row(name: str, facts: Sequence[RobustnessFacts], eps: float) -> AttackRow:
    chunks = [[attack for attack in chunk.rows if attack.name == name] for chunk in facts]
    attacks = [attack for chunk in chunks for attack in chunk]
    return AttackRow(
        name=name,
        settings=attacks[0].settings,
        tried=sum(max((attack.tried for attack in chunk), default=0) for chunk in chunks),
        broke=sum(attack.broke for attack in attacks if attack.eps is None or attack.eps <= eps * _WITHIN),
        faults=sum(attack.faults for attack in attacks),
        cost=Cost(
            forwards=sum(attack.forwards for attack in attacks), backwards=sum(attack.backwards for attack in attacks)
        ),
        reason=next((attack.reason for attack in attacks if attack.reason), NO_NOTE),
    )


def _all_distances(results: RunResults) -> list[DistanceRow]:
    """The smallest distance at which each image was verified to break, by model and norm."""
    return [
        _distances(role, at.norm, at.method, entries)
        for role in results.roles
        for at, entries in group_by_condition(only_measured(results.entries("robustness", role=role)))
    ]


def _distances(role: str, norm: str, battery: str, entries: Sequence[TaskResult]) -> DistanceRow:
    values = np.concatenate([np.asarray(e.evidence.arrays["minimal_eps"], np.float64) for e in entries])
    quantiles = np.quantile(values, QUANTILES, method="inverted_cdf")
    return DistanceRow(
        role=role,
        norm=norm,
        battery=battery,
        n=values.size,
        unbroken=int(np.isinf(values).sum()),
        quantiles=[float(value) if np.isfinite(value) else None for value in quantiles],
    )
