"""What a study is given besides its cell: models, examples, earlier evidence, a place for unfinished work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Task
from audit.storage.checkpoint import CellCheckpoint


class ModuleFactory(Protocol):
    """Makes modules with new weights."""

    def __call__(self, seed: int, architecture: str | None = None) -> nn.Module:
        """One of the architecture named, or of the run's own, drawn from `seed`."""
        ...


@dataclass(frozen=True)
class Context:
    """`model` and `batch` are those the task names; `fresh(seed)` is a new module of the run's architecture;
    `evidence` reads an input by its name in `cell.inputs`;
    `scratch` is a folder that survives a kill; `progress(done, total)` reports; `stopping()` turns true
    when the user asked to stop: a study then writes to `scratch` and raises Interrupted;
    `boards` is the folder for TensorBoard's event files, None where nobody wants any."""

    task: Task
    model: Callable[[], ModelUnderTest]
    fresh: ModuleFactory
    batch: Callable[[], Batch]
    evidence: Callable[[str], Evidence]
    scratch: Path
    progress: Callable[[int, int], None]
    stopping: Callable[[], bool]
    device: torch.device
    boards: Path | None = None

    def unfinished(self, part: str = "cell") -> CellCheckpoint:
        """Where the cell, or a part of it with a file of its own, keeps what it has finished so far."""
        return CellCheckpoint(self.scratch / f"{part}.safetensors")
