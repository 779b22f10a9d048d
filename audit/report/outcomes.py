"""Rows of the document that belong to no topic: outcomes by example, measurements without numbers, and costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.core.note import Note
from audit.core.threat_format import format_threat
from audit.document.model import cost_of
from audit.document.schema import Gap, OutcomeRow, StudyCost
from audit.results.queries import (
    clean_correct,
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults
from audit.topics.certification.facts import LINEAR_BOUNDS


def outcome_rows(results: RunResults, role: str) -> list[OutcomeRow]:
    """The outcome of each example, from which two runs are compared.

    Args:
        results: The run.
        role: Role of the model.
    """
    rows = [_outcome_row(role, "clean", clean_correct(results, role).positions, clean_correct(results, role).values)]
    for at, entries in group_by_condition(results.entries("robustness", role=role)):
        robust = per_example(entries, "robust")
        rows.append(_outcome_row(role, f"robust {format_threat(at.norm, at.eps)}", robust.positions, robust.values))
    for at, entries in group_by_condition(only_measured(results.entries("certification", role=role))):
        if at.method == LINEAR_BOUNDS:
            proven = per_example(entries, "certified")
            rows.append(_outcome_row(role, f"proven {format_threat(at.norm, at.eps)}", proven.positions, proven.values))
    return [row for row in rows if row.outcomes]


def _outcome_row(role: str, quantity: str, positions: NDArray[np.int64], values: Array) -> OutcomeRow:
    bits = "".join("1" if value else "0" for value in values)
    return OutcomeRow(role=role, quantity=quantity, start=int(positions[0]) if bits else 0, outcomes=bits)


def gaps(results: RunResults) -> list[Gap]:
    """Every planned measurement that gave no number, with the reason.

    Args:
        results: The run.
    """
    present = [
        (task, results.evidence[task.cell.key]) for task in results.plan.tasks if task.cell.key in results.evidence
    ]
    unmeasured = dict.fromkeys(
        (task.cell.study, task.cell.method, task.role, evidence.status, Note.model_validate(evidence.reason))
        for task, evidence in present
        if evidence.status != "measured"
    )
    return [Gap(study=s, method=m, role=r, status=status, reason=reason) for s, m, r, status, reason in unmeasured]


def study_costs(results: RunResults) -> list[StudyCost]:
    """What each study of each model cost, in plan order.

    Args:
        results: The run.
    """
    studies = dict.fromkeys((task.cell.study, task.role) for task in results.plan.tasks)
    rows = [(study, role, results.entries(study, role=role)) for study, role in studies]
    return [StudyCost(study=s, role=r, cells=len(cells), cost=cost_of(cells)) for s, r, cells in rows if cells]
