"""A part of a plan: the tasks behind one section of the report, and whatever those build on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config import Section
from audit.planning.plan import AuditPlan, Task

STUDIES: Mapping[Section, tuple[str, ...]] = {
    "accuracy": ("accuracy", "int8-engine"),
    "robustness": (
        "robustness",
        "sanity",
        "attack-controls",
        "certification",
        "backdoor",
        "further-threats",
        "surrogate",
    ),
    "corruptions": ("corruption",),
    "explanations": (
        "explanation",
        "faithfulness",
        "judging",
        "drift",
        "agreement",
        "localisation",
        "controls",
        "shortcuts",
        "calibration-of-the-tool",
    ),
}
"""The studies whose numbers a section shows; accuracy is in every report, and the makers of models come by need."""


def select_sections(plan: AuditPlan, only: Sequence[Section]) -> AuditPlan:
    """The tasks of `only` and of accuracy, with every task they need, cell for cell as in `plan`; all when empty."""
    if not only:
        return plan
    wanted = {study for section in ("accuracy", *only) for study in STUDIES[section]}
    needed: set[str] = set()
    for task in sorted(plan.tasks, key=lambda task: -task.wave):
        if task.cell.study in wanted or task.cell.key in needed:
            needed |= {task.cell.key, *_beneath(task)}
    return AuditPlan(tuple(task for task in plan.tasks if task.cell.key in needed))


def _beneath(task: Task) -> set[str]:
    return {*task.cell.inputs.values(), task.cell.model.removeprefix("cell:")}
