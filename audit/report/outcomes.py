"""Rows of the document that belong to no topic: outcomes by example, measurements without numbers, and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config import RunConfig
from audit.core.evidence import Finding
from audit.core.looks import Look
from audit.core.note import Note
from audit.core.pass_count import PassCount
from audit.core.threat_format import format_threat
from audit.document.model import Cost, cost_of
from audit.document.schema import Gap, OutcomeRow, StudyCost
from audit.document.stops import StopRow, UnfinishedRow
from audit.planning.parts import whole_study
from audit.planning.plan import Task
from audit.results.queries import (
    PerExample,
    clean_correct,
    group_by_condition,
    per_example,
)
from audit.results.run_results import RunResults
from audit.results.stopping import ending, images_taken, look_at, stopping_note
from audit.topics.certification.facts import LINEAR_BOUNDS
from audit.topics.certification.proven import certificates_of


def outcome_rows(results: RunResults, role: str) -> list[OutcomeRow]:
    """The outcome of each example, from which two runs are compared.

    Args:
        results: The run.
        role: Role of the model.
    """
    rows = [_outcome_row(role, "clean", clean_correct(results, role))]
    look = look_at(results, "robustness", role)
    for at, entries in group_by_condition(results.entries("robustness", role=role)):
        robust = per_example(entries, "robust")
        rows.append(_outcome_row(role, f"robust {format_threat(at.norm, at.eps)}", robust, look))
    look = look_at(results, "certification", role)
    for at, entries in group_by_condition(certificates_of(results, role)):
        if at.method == LINEAR_BOUNDS:
            proven = per_example(entries, "certified")
            rows.append(_outcome_row(role, f"proven {format_threat(at.norm, at.eps)}", proven, look))
    return [row for row in rows if row.outcomes]


def _outcome_row(role: str, quantity: str, examples: PerExample, look: Look = "only") -> OutcomeRow:
    bits = "".join("1" if value else "0" for value in examples.values)
    start = int(examples.positions[0]) if bits else 0
    return OutcomeRow(role=role, quantity=quantity, start=start, outcomes=bits, look=look)


def stop_rows(results: RunResults, config: RunConfig) -> list[StopRow]:
    """Where each study that takes images in steps ended; those that did not begin are unfinished.

    Args:
        results: The run.
        config: The configuration of the run.
    """
    return [
        StopRow(
            study=steps.study,
            role=steps.role,
            rule=results.plan.stop,
            images=taken,
            planned=steps.examples,
            ended=ending(results, steps, config),
            sentence=stopping_note(results, steps, config),
        )
        for steps in results.steps
        if (taken := images_taken(results, steps))
    ]


def unfinished_rows(
    results: RunResults, findings: Sequence[Finding], most: Mapping[str, PassCount | None]
) -> list[UnfinishedRow]:
    """What a run that was cut has not computed, in plan order.

    Args:
        results: The run.
        findings: What its checks concluded.
        most: By key of a cell, the most it costs; None where that is not known.
    """
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in results.unfinished:
        groups.setdefault((task.cell.study, task.role), []).append(task)
    rows = []
    for (study, role), tasks in groups.items():
        read = {entry.task.cell.key for entry in results.entries(study, role=role)}
        doubtful = (f for f in findings if f.verdict == "inconclusive" and f.role == role and read & set(f.evidence))
        passes = [most.get(task.cell.key) for task in tasks]
        known = [count for count in passes if count is not None]
        total = sum(known, PassCount())
        rows.append(
            UnfinishedRow(
                study=study,
                role=role,
                cells=len(tasks),
                cost=Cost(forwards=total.forwards, backwards=total.backwards) if len(known) == len(passes) else None,
                undecided=list(dict.fromkeys(finding.check for finding in doubtful)),
            )
        )
    return rows


def gaps(results: RunResults) -> list[Gap]:
    """Every planned measurement that gave no number, with the reason.

    Args:
        results: The run.
    """
    present = [
        (task, results.evidence[task.cell.key]) for task in results.plan.tasks if task.cell.key in results.evidence
    ]
    unmeasured = dict.fromkeys(
        (
            whole_study(task.cell.study),
            task.cell.method,
            task.role,
            evidence.status,
            Note.model_validate(evidence.reason),
        )
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
