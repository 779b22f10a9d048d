"""What a study gets besides its cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from audit.core.errors import AuditError
from audit.core.evidence import Array, Evidence
from audit.core.types import Batch
from audit.data.dataset import Dataset
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.storage.checkpoint import CellCheckpoint


class ModuleFactory(Protocol):
    """Makes nets with new weights."""

    def __call__(self, seed: int, architecture: str | None = None) -> nn.Module:
        """Make a net.

        Args:
            seed: The seed of its weights.
            architecture: A name in the zoo; the run's own architecture where None.

        Returns:
            The net, untrained.
        """
        ...


def _no_others(examples: Slice) -> Batch:
    raise AuditError(f"This context has no other examples, such as {examples.split} {examples.start}.")


def _no_detector() -> DetectorUnderTest:
    raise AuditError("This run is of a classifier: there is no detector.")


@dataclass(frozen=True)
class Context:
    """What a study gets besides its cell.

    Attributes:
        task: The task being computed, which names the cell.
        model: Gives the classifier that the cell names.
        detector: Gives the detector that the cell names.
        fresh: Makes untrained nets of the run's architecture or of another.
        batch: Gives the examples that the task names.
        evidence: Gives the evidence of an input, by its name in `cell.inputs`.
        scratch: A folder for unfinished work, which survives a killed process.
        progress: Called with the steps done and the steps in all.
        stopping: Becomes true when the user asked to stop: the study then saves its work and raises Interrupted.
        device: Where to compute.
        tensorboard: The folder for TensorBoard's event files; None where none are wanted.
        dataset: The run's images, for a study of the data itself; None outside a run.
        others: Gives the examples of another slice; what says which they are belongs into the cell's settings.
        cohorts: Gives what the data says of those examples beside their labels: by column, numbers or texts (N,).
    """

    task: Task
    model: Callable[[], ModelUnderTest]
    fresh: ModuleFactory
    batch: Callable[[], Batch]
    evidence: Callable[[str], Evidence]
    scratch: Path
    progress: Callable[[int, int], None]
    stopping: Callable[[], bool]
    device: torch.device
    tensorboard: Path | None = None
    dataset: Dataset | None = None
    others: Callable[[Slice], Batch] = _no_others
    cohorts: Callable[[], Mapping[str, Array]] = dict
    detector: Callable[[], DetectorUnderTest] = _no_detector

    def checkpoint(self, part: str = "cell") -> CellCheckpoint:
        """The checkpoint of the cell's unfinished work.

        Args:
            part: A name for a part of the cell that keeps a checkpoint of its own.
        """
        return CellCheckpoint(self.scratch / f"{part}.safetensors")
