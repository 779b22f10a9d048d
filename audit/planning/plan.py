"""The plan of a run: what is computed, in which order, on which examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.config import StopRule
from audit.core.cell import Cell

MODEL_STUDIES = ("training", "compression")
"""The studies that make a model."""
FIRST_STUDIES = ("accuracy", "detection-accuracy")
"""The study of each task that every model of a run goes through first, on all test images."""
PREDICTED_LABELS = "predicted labels"
"""Key in the context of a task whose labels are the model's predictions, as the data has no labels."""
CALIBRATION_SPLIT = "calibration"
"""The split of training images in audit order: seeded, and balanced over the classes however few are taken."""


@dataclass(frozen=True)
class Slice:
    """A range of a split's audit order (see `audit.data.sampling`).

    Attributes:
        split: "test", "train" (training images as they lie in the file) or "calibration".
        start: First position, from 0.
        stop: Position after the last.
    """

    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Task:
    """A cell to compute, with what its key does not hold.

    Attributes:
        cell: The cell.
        role: The role of the model it is about, such as "standard".
        examples: The examples it runs on.
        wave: Its position in the order of computation, from 0: after the waves of its model and its inputs.
        context: What the study needs besides and the answer does not depend on, such as the path of a weights file.
    """

    cell: Cell
    role: str
    examples: Slice
    wave: int
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the cells whose evidence it reads, that of its model among them where the run makes it."""
        made = {self.cell.model.removeprefix("cell:")} if self.cell.model.startswith("cell:") else set()
        return frozenset({*self.cell.inputs.values(), *made})

    @property
    def processes(self) -> int:
        """Processes that compute it together."""
        return int(self.context.get("nproc", 1))

    @property
    def label(self) -> str:
        """Study, method and role, for a progress line."""
        return f"{self.cell.study} · {self.cell.method} · {self.role}"


@dataclass(frozen=True)
class AuditPlan:
    """The tasks of a run.

    Attributes:
        tasks: In the order of the report; the inputs of a task are in earlier waves.
        stop: When a study that takes images in steps takes no further ones.
    """

    tasks: tuple[Task, ...]
    stop: StopRule = "all"

    def waves(self) -> Iterator[tuple[Task, ...]]:
        """The tasks grouped by wave, in order of computation; those of one wave do not depend on each other."""
        for wave in sorted({task.wave for task in self.tasks}):
            yield tuple(task for task in self.tasks if task.wave == wave)
