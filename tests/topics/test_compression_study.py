"""Compression as a study: the variant comes back as a model, with its size beside its parent's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.config import TrainingConfig
from audit.core.cell import Cell
from audit.core.errors import UsageError
from audit.execution.stored_model import ONNX_FILE, trained_model
from audit.models.under_test import ModelUnderTest
from audit.topics.compression.study import METHODS, compression
from audit.training.fit import fit
from tests.training.toy import thirds, tiny_net

SETTINGS = TrainingConfig(epochs=8, batch_size=30, optimizer="adam", learning_rate=0.03)
AMOUNTS = {"magnitude": 0.3, "structured": 0.2, "clip": 1.5, "int8": None}


@pytest.fixture(scope="module")
def parent() -> ModelUnderTest:
    net, batch = tiny_net(), thirds(240)
    net.load_state_dict(fit(net, batch, SETTINGS, classes=3, mean=0.4, std=0.25).weights)
    return ModelUnderTest(net, classes=("a", "b", "c"), input_shape=(1, 9, 9), mean=0.4, std=0.25, device="cpu")


def cell_of(method: str, amount: float | None, training: dict[str, Any] | None = None) -> Cell:
    settings = {
        "architecture": "tiny",
        "amount": amount,
        "classes": ["a", "b", "c"],
        "input_shape": [1, 9, 9],
        "training": training,
    }
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
    assert (new["parameters"] < old["parameters"]) == (method == "structured")
    if method in ("magnitude", "structured"):
        assert new["nonzero"] < old["nonzero"]
    if method == "int8":
        assert [(name, value.dtype) for name, value in evidence.arrays.items()] == [(ONNX_FILE, np.uint8)]
        assert evidence.facts["int8"] == {"calibrated": 60, "in_float": [], "engine": "onnxruntime"}
        assert new["bytes"] == evidence.arrays[ONNX_FILE].size
    rows = evidence.environment["latency"]
    assert [row["images"] for row in rows] == [1, 64]
    assert all(len(row["parent"]) == len(row["variant"]) == 15 and min(row["variant"]) > 0 for row in rows)


def test_an_unfinished_fine_tuning_with_other_settings_is_named(
    parent: ModelUnderTest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, epochs in (("a", 2), ("b", 1)):
        cell = cell_of("magnitude", 0.5, SETTINGS.model_copy(update={"epochs": epochs}).model_dump(mode="json"))
        context = bare_context(parent, thirds(60), cell)
        task = replace(context.task, role="compressed")
        compression(replace(context, scratch=tmp_path / folder, task=task), cell)
    (said,) = [record.getMessage() for record in caplog.records if "unfinished" in record.getMessage()]
    assert "the compressed model" in said and "epochs (2 there, 1 now)" in said


def test_fine_tuning_heals_what_pruning_broke_and_keeps_it_pruned(parent: ModelUnderTest, tmp_path: Path) -> None:
    rough, healed = (cell_of("magnitude", 0.88, tuning) for tuning in (None, SETTINGS.model_dump(mode="json")))
    torn = compression(bare_context(parent, thirds(240), rough), rough)
    mended = compression(replace(bare_context(parent, thirds(240), healed), scratch=tmp_path), healed)
    accuracies = [accuracy(trained_model(e, device="cpu", module=tiny_net())) for e in (torn, mended)]
    assert accuracies[1] > accuracies[0] + 0.3
    assert mended.backwards > 0 and len(mended.facts["history"]) == 8
    weight = "weights/4.weight"
    assert bool((mended.arrays[weight][torn.arrays[weight] == 0] == 0).all())
    assert np.count_nonzero(mended.arrays[weight]) == np.count_nonzero(torn.arrays[weight])


def test_a_student_learns_what_its_teacher_says_not_what_the_labels_say(parent: ModelUnderTest, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"recipe": "distill", "recipe_settings": {"weight": 1.0}, "epochs": 12})
    cell = cell_of("distill", None, settings.model_dump(mode="json"))
    batch = thirds(240)
    lying = replace(batch, labels=(batch.labels + 1) % 3)
    context = replace(bare_context(parent, lying, cell), scratch=tmp_path, fresh=lambda seed: tiny_net(seed=5))
    made = compression(context, cell)
    student = trained_model(made, device="cpu", module=tiny_net())
    assert accuracy(student) > 0.55  # the labels alone would have taught it 0
    assert made.forwards > 12 * 2 * 200 and made.facts["parent"]["parameters"] == made.facts["variant"]["parameters"]


def test_an_unknown_compression_lists_what_exists(parent: ModelUnderTest) -> None:
    cell = cell_of("int4", None)
    with pytest.raises(UsageError, match=r"Unknown compression 'int4'.*clip.*distill"):
        compression(bare_context(parent, thirds(9), cell), cell)


def test_torch_is_left_with_its_own_randomness(parent: ModelUnderTest) -> None:
    before = torch.get_rng_state()
    cell = cell_of("int8", None)
    compression(bare_context(parent, thirds(9), cell), cell)
    assert torch.equal(torch.get_rng_state(), before)
