"""The executor that computes in this process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.cell import Cell
from audit.core.registry import find
from audit.core.types import Batch
from audit.execution.local import LocalExecutor
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.storage.store import Store
from tests.memory_faults import MEMORY_FAULTS


class Shaken(nn.Module):
    def __init__(self, spread: float) -> None:
        super().__init__()
        self.net, self.spread = nn.Linear(16, 3), spread
        self.net.load_state_dict({"weight": torch.eye(3, 16), "bias": torch.zeros(3)})

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.flatten(1)) + self.spread * torch.randn(len(images), 3)


class Images:
    """A dataset of noise."""

    name = "noise"

    def __init__(self) -> None:
        self.test = self

    def __len__(self) -> int:
        return 50

    def batch(self, index: Any) -> Batch:
        images = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        return Batch(images, torch.arange(50) % 3, tuple(map(str, range(50)))).select(torch.from_numpy(index))


def correct(folder: Path, monkeypatch: pytest.MonkeyPatch, spread: float = 1.0) -> np.ndarray:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setattr("audit.execution.local.balanced_order", lambda split, seed: np.arange(len(split)))

    def loaded() -> ModelUnderTest:
        return ModelUnderTest(Shaken(spread), classes=("a", "b", "c"), input_shape=(1, 4, 4), device="cpu")

    dataset: Any = Images()
    executor = LocalExecutor(dataset, Store(folder), 0, torch.device("cpu"), fresh=_none, loaded=loaded)
    task = Task(Cell("accuracy", "clean", model="file"), role="standard", examples=Slice("test", 0, 50), wave=0)
    evidence = executor.compute_cell(task)
    assert evidence.status == "measured", evidence.reason
    values: np.ndarray = evidence.measurement("correct").per_example
    return values


def _none(seed: int, student: str | None = None) -> nn.Module:
    raise AssertionError("no untrained module is wanted")


def test_a_random_model_answers_the_same_at_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with its layout probed, once remembered, and whatever was drawn before."""
    torch.manual_seed(1)
    first = correct(tmp_path, monkeypatch)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert np.array_equal(correct(tmp_path, monkeypatch), first) and 0 < first.mean() < 1
    assert torch.equal(torch.get_rng_state(), state), "torch's generators are left as found"


def test_a_cell_that_runs_out_of_memory_beside_the_model_begins_again_with_half_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of fault in turn, from a batch of 128 down to one that fits."""
    expected, faults, asked = correct(tmp_path / "roomy", monkeypatch, 0), iter(MEMORY_FAULTS.values()), []
    method = find("study", "accuracy")

    def hungry(context: Any, cell: Cell) -> Any:
        asked.append(context.model().layout.batch_size)
        if asked[-1] > 2:
            raise next(faults)
        return method.function(context, cell)

    starved = dataclasses.replace(method, function=hungry)
    monkeypatch.setattr("audit.execution.local.find", lambda kind, name: starved)
    monkeypatch.setattr("audit.execution.local.tune_execution", lambda model: setattr(model.layout, "batch_size", 128))
    assert np.array_equal(correct(tmp_path / "tight", monkeypatch, 0), expected)
    assert asked == [128, 64, 32, 16, 8, 4, 2]
