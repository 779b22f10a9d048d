"""A study's context without a run around it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from audit.cell import Cell
from audit.errors import AuditError
from audit.evidence import Evidence
from audit.models.under_test import ModelUnderTest
from audit.plan import Slice, Task
from audit.studies.context import Context
from audit.types import Batch


def bare_context(
    model: ModelUnderTest,
    batch: Batch,
    cell: Cell,
    *,
    stopping: Callable[[], bool] = lambda: False,
    scratch: Path = Path("unused"),
) -> Context:
    def no_input(name: str) -> Evidence:
        raise AuditError(f"This study has no input {name}.")

    return Context(
        task=Task(cell, "standard", Slice("test", 0, len(batch)), 0),
        model=lambda: model,
        fresh=lambda seed: copy.deepcopy(model.net),
        batch=lambda: batch,
        evidence=no_input,
        scratch=scratch,
        progress=lambda done, total: None,
        stopping=stopping,
        device=torch.device("cpu"),
    )
