"""A finished (or unfinished) run as its readers see it: the plan beside the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from audit.core.evidence import Array, Evidence
from audit.planning.plan import MODEL_STUDIES, PREDICTED_LABELS, AuditPlan, Task


@dataclass(frozen=True)
class TaskResult:
    """A task with what it found."""

    task: Task
    evidence: Evidence


@dataclass(frozen=True)
class RunResults:
    """Every task of a plan with its evidence; a task that has none yet is absent."""

    plan: AuditPlan
    evidence: Mapping[str, Evidence]

    @property
    def complete(self) -> bool:
        """Whether every task was run, and none failed."""
        return all(
            task.cell.key in self.evidence and self.evidence[task.cell.key].status != "failed"
            for task in self.plan.tasks
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The models of the run, in the order they appear: "standard", "hardened"."""
        return tuple(dict.fromkeys(task.role for task in self.plan.tasks))

    @property
    def labelled(self) -> bool:
        """Whether the labels were given; false where they are what the model predicts."""
        return not any(task.context.get(PREDICTED_LABELS) for task in self.plan.tasks)

    def entries(self, study: str, *, role: str | None = None, method: str | None = None) -> tuple[TaskResult, ...]:
        """The entries of a study in plan order, its chunks of examples one after another."""
        return tuple(
            TaskResult(task, self.evidence[task.cell.key])
            for task in self.plan.tasks
            if task.cell.study == study
            and (role is None or task.role == role)
            and (method is None or task.cell.method == method)
            and task.cell.key in self.evidence
        )

    def made(self, *, role: str | None = None) -> tuple[TaskResult, ...]:
        """The entries whose evidence is a model: trained here, or made smaller here."""
        return tuple(entry for study in MODEL_STUDIES for entry in self.entries(study, role=role))

    def per_example(self, study: str, measurement: str, *, role: str, method: str | None = None) -> Array:
        """One measurement over all chunks of a study, (N,); empty when nothing was measured."""
        parts = [
            entry.evidence.measurement(measurement).per_example
            for entry in self.entries(study, role=role, method=method)
            if entry.evidence.status == "measured"
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def array(self, study: str, name: str, *, role: str, method: str | None = None, axis: int = 0) -> Array | None:
        """One array over all chunks of a study, joined along `axis`; None when nothing was measured."""
        parts = [
            entry.evidence.arrays[name]
            for entry in self.entries(study, role=role, method=method)
            if entry.evidence.status == "measured" and name in entry.evidence.arrays
        ]
        return np.concatenate(parts, axis=axis) if parts else None
