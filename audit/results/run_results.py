"""The plan of a run with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from audit.core.evidence import Array, Evidence
from audit.planning.plan import MODEL_STUDIES, PREDICTED_LABELS, AuditPlan, Task
from audit.planning.steps import StudySteps, study_steps

Cut = Literal["", "time", "user"]
"""What ended a run early: its time, or whoever started it."""


@dataclass(frozen=True)
class TaskResult:
    """A task with its evidence.

    Attributes:
        task: The task.
        evidence: Its evidence.
    """

    task: Task
    evidence: Evidence


@dataclass(frozen=True)
class RunResults:
    """The tasks of a plan with their evidence; tasks without evidence yet are left out of every query.

    Attributes:
        plan: The plan.
        evidence: By key of a cell, its evidence.
        unneeded: Keys of the cells that a study's rule for stopping did not want.
        cut_by: What ended the run before its tasks were done; empty where nothing did.
    """

    plan: AuditPlan
    evidence: Mapping[str, Evidence]
    unneeded: frozenset[str] = frozenset()
    cut_by: Cut = ""

    @cached_property
    def steps(self) -> tuple[StudySteps, ...]:
        """The studies that take images in steps; every check asks for them."""
        return study_steps(self.plan)

    @property
    def complete(self) -> bool:
        """Whether every task that was wanted was run, and none failed."""
        return not self.unfinished and all(evidence.status != "failed" for evidence in self.evidence.values())

    @property
    def unfinished(self) -> tuple[Task, ...]:
        """The tasks that were wanted and have no evidence."""
        return tuple(
            task
            for task in self.plan.tasks
            if task.cell.key not in self.evidence and task.cell.key not in self.unneeded
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the plan in order, such as "standard" and "hardened"."""
        return tuple(dict.fromkeys(task.role for task in self.plan.tasks))

    @property
    def labelled(self) -> bool:
        """Whether the labels are true ones; False where they are the model's predictions."""
        return not any(task.context.get(PREDICTED_LABELS) for task in self.plan.tasks)

    def entries(self, study: str, *, role: str | None = None, method: str | None = None) -> tuple[TaskResult, ...]:
        """The entries of a study in plan order, its cells one after another.

        Args:
            study: Name of the study.
            role: Only those of this model; None for all.
            method: Only those of this method; None for all.
        """
        return tuple(
            TaskResult(task, self.evidence[task.cell.key])
            for task in self.plan.tasks
            if task.cell.study == study
            and (role is None or task.role == role)
            and (method is None or task.cell.method == method)
            and task.cell.key in self.evidence
        )

    def model_results(self, *, role: str | None = None) -> tuple[TaskResult, ...]:
        """The entries whose evidence is a model that was trained or compressed in the run.

        Args:
            role: Only those of this model; None for all.
        """
        return tuple(entry for study in MODEL_STUDIES for entry in self.entries(study, role=role))

    def per_example(self, study: str, measurement: str, *, role: str) -> Array:
        """One measurement over all cells of a study.

        Args:
            study: Name of the study.
            measurement: Name of the measurement.
            role: Role of the model.

        Returns:
            The values, (N,); empty when nothing was measured.
        """
        parts = [
            entry.evidence.measurement(measurement).per_example
            for entry in self.entries(study, role=role)
            if entry.evidence.status == "measured"
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def array(self, study: str, name: str, *, role: str, axis: int = 0) -> Array | None:
        """One array over all cells of a study.

        Args:
            study: Name of the study.
            name: Name of the array.
            role: Role of the model.
            axis: The axis of examples, along which the cells are concatenated.

        Returns:
            The array; None when nothing was measured.
        """
        parts = [
            entry.evidence.arrays[name]
            for entry in self.entries(study, role=role)
            if entry.evidence.status == "measured" and name in entry.evidence.arrays
        ]
        return np.concatenate(parts, axis=axis) if parts else None
