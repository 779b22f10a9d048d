"""The part of a plan behind some sections of the report, with whatever that depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audit.core.topic import topics
from audit.planning.plan import AuditPlan


def select_sections(plan: AuditPlan, only: Sequence[str]) -> AuditPlan:
    """The tasks of some sections and of accuracy, which is in every report, with every task they depend on.

    Args:
        plan: A whole plan.
        only: Names of sections; none for the whole plan.

    Returns:
        The plan of those tasks; their cells are unchanged.
    """
    if not only:
        return plan
    wanted = {"accuracy", "detection_accuracy", *only}
    selected = {study for topic in topics() if wanted & {topic.section, *topic.also_in} for study in topic.studies}
    needed: set[str] = set()
    for task in sorted(plan.tasks, key=lambda task: -task.wave):
        if task.cell.study in selected or task.cell.key in needed:
            needed |= {task.cell.key, *task.needs}
    return replace(plan, tasks=tuple(task for task in plan.tasks if task.cell.key in needed))
