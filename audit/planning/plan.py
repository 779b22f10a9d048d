"""From a configuration to the cells of a run: what will be computed, in which order, on which examples.

Pure: nothing is read, nothing is run. The data and the model come in as identities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.core.cell import Cell

MODEL_STUDIES = ("training", "compression")
"""The studies that make a model."""
PREDICTED_LABELS = "predicted labels"
"""In the context of a task whose labels are what the model predicts, as nobody said what the images show."""
CALIBRATION_SPLIT = "calibration"
"""The split of training images in audit order: seeded, and balanced over the classes however few are taken."""


@dataclass(frozen=True)
class Slice:
    """Examples `start` to `stop` of a split's audit order (see `audit.data.sampling`)."""

    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Task:
    """A cell to compute, with what the key does not hold: whose it is, where its examples lie, its wave."""

    cell: Cell
    role: str
    examples: Slice
    wave: int
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a progress line calls it."""
        return f"{self.cell.study} · {self.cell.method} · {self.role}"


@dataclass(frozen=True)
class AuditPlan:
    """Tasks in the order in which a report tells of them; every input lies in an earlier wave than its use."""

    tasks: tuple[Task, ...]

    def waves(self) -> Iterator[tuple[Task, ...]]:
        """Groups of tasks that do not depend on each other, one after another."""
        for wave in sorted({task.wave for task in self.tasks}):
            yield tuple(task for task in self.tasks if task.wave == wave)
