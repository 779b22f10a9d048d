"""Training as a study: evidence that makes the model again, from every kind of start, after every kind of stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.execution.context import Context
from audit.execution.stored_model import trained_model
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.storage.store import Store
from audit.topics.training.study import HISTORY_FILE, training
from tests.training.toy import thirds, tiny_net

SETTINGS = TrainingConfig(epochs=2, batch_size=32, learning_rate=0.01, probe_examples=10, probe_steps=2)


def cell_of(recipe: str = "standard", **changes: Any) -> Cell:
    settings = {
        "architecture": "cnn-28",
        "classes": ["top", "middle", "bottom"],
        "input_shape": [1, 12, 12],
        "mean": None,
        "std": None,
        "training": SETTINGS.model_copy(update={"recipe": recipe}).model_dump(mode="json"),
    }
    threat = {"norm": "linf", "eps": 0.1} if recipe != "standard" else None
    return Cell("training", recipe, settings=settings, threat=threat, **changes)


def fresh(seed: int) -> nn.Module:
    return build("cnn-28", classes=3, input_shape=(1, 12, 12), seed=seed)


def context_of(cell: Cell, scratch: Path, **changes: Any) -> Context:
    def absent() -> ModelUnderTest:
        raise AssertionError("no model belongs to this cell")

    batch = thirds(160, size=12)
    task = Task(cell, "standard", Slice("train", 0, len(batch)), 0)
    given: dict[str, Any] = {
        "task": task,
        "model": absent,
        "fresh": fresh,
        "batch": lambda: batch,
        "evidence": lambda name: pytest.fail(f"{name} is no input"),
        "scratch": scratch,
        "progress": lambda done, total: None,
        "stopping": lambda: False,
        "device": torch.device("cpu"),
    }
    return Context(**(given | changes))


def after(times: int) -> Callable[[], bool]:
    """True from the call after `times` on."""
    calls = iter(range(10_000))
    return lambda: next(calls) >= times


def same(first: Evidence, second: Evidence) -> bool:
    arrays = all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
    return arrays and first.arrays.keys() == second.arrays.keys() and first.facts == second.facts


def test_the_evidence_makes_the_model_again(tmp_path: Path) -> None:
    cell = cell_of()
    made = training(context_of(cell, tmp_path / "scratch"), cell)
    store = Store(tmp_path / "store")
    store.put(made)
    evidence = store.get(cell.key)
    assert evidence is not None
    model = trained_model(evidence, device="cpu", module=fresh(9))
    batch = thirds(300, seed=4, size=12)
    share = (model.predictions(batch.images) == batch.labels).float().mean().item()
    best = max(row["clean_accuracy"] for row in evidence.facts["history"])
    assert best > 0.5 and share == pytest.approx(best, abs=0.25)
    assert model.classes == ("top", "middle", "bottom")
    assert model.mean == tuple(evidence.facts["mean"]) == pytest.approx((thirds(160, size=12).images.mean().item(),))
    assert evidence.facts["parameters"] == sum(array.size for array in evidence.arrays.values())
    assert evidence.backwards == 2 * 4 * 32


def test_the_history_is_written_as_it_comes(tmp_path: Path) -> None:
    cell = cell_of()
    evidence = training(context_of(cell, tmp_path), cell)
    lines = (tmp_path / HISTORY_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == evidence.facts["history"]


def test_interrupted_and_run_again_the_evidence_is_the_same(tmp_path: Path) -> None:
    cell = cell_of("pgd")
    whole = training(context_of(cell, tmp_path / "whole"), cell)
    with pytest.raises(Interrupted):
        training(context_of(cell, tmp_path / "cut", stopping=after(1)), cell)
    again = training(context_of(cell, tmp_path / "cut"), cell)
    assert same(whole, again)
    assert (tmp_path / "cut" / HISTORY_FILE).read_text() == (tmp_path / "whole" / HISTORY_FILE).read_text()


def test_hardening_goes_on_from_the_weights_of_an_earlier_training(tmp_path: Path) -> None:
    first = cell_of()
    start = training(context_of(first, tmp_path / "first"), first)
    frozen = SETTINGS.model_copy(update={"recipe": "pgd", "learning_rate": 1e-12}).model_dump(mode="json")
    base = cell_of("pgd", inputs={"start": first.key})
    cell = Cell(
        "training", "pgd", settings={**base.settings, "training": frozen}, threat=base.threat, inputs=base.inputs
    )
    made = training(context_of(cell, tmp_path / "second", evidence=lambda name: {"start": start}[name]), cell)
    for name, array in start.arrays.items():
        assert np.allclose(made.arrays[name], array, atol=1e-6)
    assert made.facts["mean"] == start.facts["mean"]
    assert all("robust_accuracy" in row for row in made.facts["history"])


def test_hardening_a_loaded_model_leaves_it_as_it_was_and_keeps_its_normalisation(tmp_path: Path) -> None:
    loaded = ModelUnderTest(tiny_net(), classes=("a", "b", "c"), input_shape=(1, 9, 9), mean=0.4, std=0.3, device="cpu")
    before = loaded.fingerprint()
    cell = cell_of("fgsm-rs", model="file:1234")
    batch = thirds(160)
    made = training(context_of(cell, tmp_path, model=lambda: loaded, batch=lambda: batch), cell)
    assert loaded.fingerprint() == before
    assert not any(parameter.requires_grad for parameter in loaded.net.parameters())
    assert (made.facts["mean"], made.facts["std"]) == ([0.4], [0.3])
    assert not np.array_equal(made.arrays["weights/0.weight"], tiny_net()[0].weight.detach().numpy())
    cell_here = Cell("training", "fgsm-rs", settings={**cell.settings, "input_shape": [1, 9, 9]})
    again = trained_model(
        Evidence(cell_here, "measured", arrays=made.arrays, facts=made.facts), device="cpu", module=tiny_net()
    )
    assert again.mean == (0.4,)
