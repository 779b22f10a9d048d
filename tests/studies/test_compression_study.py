"""Compression as a study: the variant comes back as a model, with its size beside its parent's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.cell import Cell
from audit.config import TrainingConfig
from audit.errors import UsageError
from audit.models.under_test import ModelUnderTest
from audit.studies.compression import METHODS, compression
from audit.studies.training import trained_model
from audit.training.loop import fit
from tests.studies.bare_context import bare_context
from tests.training.toy import thirds, tiny_net

SETTINGS = TrainingConfig(epochs=8, batch_size=30, learning_rate=0.03)
AMOUNTS = {"prune-weights": 0.3, "prune-channels": 0.2, "clip-weights": 1.5, "int8": 0.0}


@pytest.fixture(scope="module")
def parent() -> ModelUnderTest:
    net, batch = tiny_net(), thirds(240)
    net.load_state_dict(fit(net, batch, SETTINGS, classes=3, mean=0.4, std=0.25).weights)
    return ModelUnderTest(net, classes=("a", "b", "c"), input_shape=(1, 9, 9), mean=0.4, std=0.25, device="cpu")


def cell_of(method: str, amount: float, fine_tuning: dict[str, Any] | None = None) -> Cell:
    settings = {"amount": amount, "classes": ["a", "b", "c"], "input_shape": [1, 9, 9], "fine_tuning": fine_tuning}
    return Cell("compression", method, settings=settings, model="file:parent")


def accuracy(model: ModelUnderTest) -> float:
    batch = thirds(150, seed=8)
    return (model.predictions(batch.images) == batch.labels).float().mean().item()


@pytest.mark.parametrize("method", METHODS)
def test_a_gently_compressed_model_is_smaller_and_still_classifies(method: str, parent: ModelUnderTest) -> None:
    before = parent.fingerprint()
    cell = cell_of(method, AMOUNTS[method])
    evidence = compression(bare_context(parent, thirds(60), cell), cell)
    variant = trained_model(evidence, device="cpu", module=tiny_net(seed=4))
    assert accuracy(parent) > 0.9 and accuracy(variant) > 0.6
    assert variant.fingerprint() != before == parent.fingerprint()
    old, new = evidence.facts["parent"], evidence.facts["variant"]
    assert new["parameters"] == old["parameters"]
    if method.startswith("prune"):
        assert new["nonzero"] < old["nonzero"]
    if method == "int8":
        assert new["bytes"] < old["bytes"]
    assert set(evidence.environment["seconds"]["variant"]) == {"1", "64"}


def test_fine_tuning_heals_what_pruning_broke_and_keeps_it_pruned(parent: ModelUnderTest, tmp_path: Path) -> None:
    rough, healed = (cell_of("prune-weights", 0.88, tuning) for tuning in (None, SETTINGS.model_dump(mode="json")))
    torn = compression(bare_context(parent, thirds(240), rough), rough)
    mended = compression(replace(bare_context(parent, thirds(240), healed), scratch=tmp_path), healed)
    accuracies = [accuracy(trained_model(e, device="cpu", module=tiny_net())) for e in (torn, mended)]
    assert accuracies[1] > accuracies[0] + 0.3
    assert mended.backwards > 0 and len(mended.facts["history"]) == 8
    weight = "weights/4.weight"
    assert bool((mended.arrays[weight][torn.arrays[weight] == 0] == 0).all())
    assert np.count_nonzero(mended.arrays[weight]) == np.count_nonzero(torn.arrays[weight])


def test_an_unknown_compression_lists_what_exists(parent: ModelUnderTest) -> None:
    cell = cell_of("int4", 0.0)
    with pytest.raises(UsageError, match=r"Unknown compression 'int4'.*clip-weights"):
        compression(bare_context(parent, thirds(9), cell), cell)


def test_torch_is_left_with_its_own_randomness(parent: ModelUnderTest) -> None:
    before = torch.get_rng_state()
    cell = cell_of("int8", 0.0)
    compression(bare_context(parent, thirds(9), cell), cell)
    assert torch.equal(torch.get_rng_state(), before)
