"""The steps of studies that may stop early: which cells of a plan are looked at together, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from audit.core.topic import topics
from audit.planning.plan import AuditPlan, Task


@dataclass(frozen=True)
class StudySteps:
    """The cells of one sequential study of one model.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        steps: The cells of each step, whose examples go on where those of the step before end.
    """

    study: str
    role: str
    steps: tuple[tuple[Task, ...], ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All cells, in order."""
        return tuple(task for step in self.steps for task in step)

    @property
    def examples(self) -> int:
        """The examples of all steps."""
        return max(task.examples.stop for task in self.tasks)


def study_steps(plan: AuditPlan) -> tuple[StudySteps, ...]:
    """The sequential studies of a plan that have more steps than one, in plan order.

    Args:
        plan: The plan.
    """
    sequential = {study for topic in topics() for study in topic.sequential}
    groups: dict[tuple[str, str], dict[int, list[Task]]] = {}
    for task in plan.tasks:
        if task.cell.study in sequential:
            steps = groups.setdefault((task.cell.study, task.role), {})
            steps.setdefault(task.examples.start, []).append(task)
    return tuple(
        StudySteps(study, role, tuple(tuple(steps[start]) for start in sorted(steps)))
        for (study, role), steps in groups.items()
        if len(steps) > 1
    )
