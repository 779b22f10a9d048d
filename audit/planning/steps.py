"""The steps of studies that may stop early: which cells of a plan are looked at together, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.core.topic import topic_of, topics
from audit.planning.plan import AuditPlan, Task


@dataclass(frozen=True)
class StudySteps:
    """The cells of one sequential study of one model.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        steps: The cells of each step, whose examples go on where those of the step before end; the parts that they are
            joined from come before them.
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
    tasks = {task.cell.key: task for task in plan.tasks}
    for task in plan.tasks:
        if task.cell.study in sequential:
            steps = groups.setdefault((task.cell.study, task.role), {})
            steps.setdefault(task.examples.start, []).extend([*_parts(task, tasks), task])
    return tuple(
        StudySteps(study, role, tuple(tuple(steps[start]) for start in sorted(steps)))
        for (study, role), steps in groups.items()
        if len(steps) > 1
    )


def _parts(task: Task, tasks: Mapping[str, Task]) -> list[Task]:
    """The cells of its own topic that a cell is joined from, each after those it reads."""
    topic = topic_of(task.cell.study)
    own = topic.studies if topic else {}
    read: dict[str, Task] = {}
    waiting = [task]
    while waiting:
        for key in waiting.pop().needs - read.keys():
            if key in tasks and tasks[key].cell.study in own:
                read[key] = tasks[key]
                waiting.append(tasks[key])
    return sorted(read.values(), key=lambda part: (part.wave, part.examples.start, part.cell.study))
