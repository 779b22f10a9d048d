"""A study's context without a run around it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import torch

from audit.core.cell import Cell
from audit.core.errors import AuditError
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.execution.context import Context
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task


def bare_context(
    model: ModelUnderTest,
    batch: Batch,
    cell: Cell,
    *,
    stopping: Callable[[], bool] = lambda: False,
    scratch: Path | None = None,
) -> Context:
    def no_input(name: str) -> Evidence:
        raise AuditError(f"This study has no input {name}.")

    return Context(
        task=Task(cell, "standard", Slice("test", 0, len(batch)), 0),
        model=lambda: model,
        fresh=lambda seed: copy.deepcopy(model.net),
        batch=lambda: batch,
        evidence=no_input,
        scratch=scratch or Path(tempfile.gettempdir()) / f"unused-{uuid4().hex}",  # written where a cell takes long
        progress=lambda done, total: None,
        stopping=stopping,
        device=torch.device("cpu"),
    )
