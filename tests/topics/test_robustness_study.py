"""The robustness study: a battery's outcome as evidence that goes to the store and comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.adversarial.batteries import battery_named
from audit.adversarial.run_battery import run_battery
from audit.adversarial.runtime_rounding import ASKED
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.storage.store import Store
from audit.topics.robustness.study import robustness

CELL = Cell(
    "robustness",
    "quick",
    settings={"eps": [0.01, 0.03, 0.1], "headline": 0.03, "kept": 4},
    threat={"norm": "linf", "eps": 0.03},
    seed=3,
)


@pytest.fixture
def evidence(cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))
    return robustness(bare_context(cnn_model, cnn_batch, CELL), CELL)


def test_measurements_and_arrays_agree(evidence: Evidence, cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    robust = evidence.arrays["robust"]
    assert robust.shape == (3, 10) and robust.dtype == np.uint8
    assert np.array_equal(evidence.measurement("robust").per_example, robust[1].astype(float))
    assert np.array_equal(evidence.arrays["broken_by"] >= 0, robust == 0)
    assert evidence.arrays["minimal_eps"].dtype == np.float64
    assert np.array_equal(robust == 0, evidence.arrays["minimal_eps"] <= np.array([[0.01], [0.03], [0.1]]) + 2e-6)


def test_kept_images_break_the_model_where_it_is_not_robust(
    evidence: Evidence, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    kept = torch.from_numpy(evidence.arrays["adversarial"])
    assert np.allclose(evidence.arrays["adversarial_logits"], cnn_model.logits(kept).numpy(), atol=1e-6)
    assert kept.shape == (4, 1, 12, 12) and kept.dtype == torch.float32
    wrong = (cnn_model.predictions(kept) != cnn_batch.labels[:4]).numpy()
    assert np.array_equal(wrong, evidence.arrays["robust"][1, :4] == 0)


def test_the_same_as_the_battery_with_its_cost(evidence: Evidence, cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    outcome = run_battery(cnn_model, cnn_batch, "linf", [0.01, 0.03, 0.1], headline=0.03, seed=3)
    assert np.array_equal(evidence.arrays["minimal_eps"], outcome.minimal_eps.numpy())
    kept = len(evidence.arrays["adversarial"])
    asked = kept + 2 * ASKED  # the last in a batch and alone
    assert (evidence.forwards, evidence.backwards) == (outcome.passes.forwards + asked, outcome.passes.backwards)
    assert evidence.forwards > evidence.backwards > 0


def test_rows_say_who_tried_what(evidence: Evidence) -> None:
    rows = evidence.facts["rows"]
    assert {row["name"] for row in rows} == set(evidence.facts["attacks"]) - {"clean"}
    assert {"settings", "tried", "broke", "faults", "forwards", "backwards", "eps"} <= set(rows[0])


def test_evidence_survives_the_store(evidence: Evidence, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put(evidence)
    again = store.get(CELL.key)
    assert again is not None and again.facts == evidence.facts
    assert np.array_equal(again.arrays["broken_by"], evidence.arrays["broken_by"])


def test_a_custom_battery_comes_out_of_the_cell(
    cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))
    battery = battery_named("pgd,random-noise,carlini-wagner")
    cell = replace(CELL, method="custom", settings={**CELL.settings, "protocol": battery.describe()})
    evidence = robustness(bare_context(cnn_model, cnn_batch, cell), cell)
    outcome = run_battery(cnn_model, cnn_batch, "linf", [0.01, 0.03, 0.1], battery=battery, headline=0.03, seed=3)
    assert np.array_equal(evidence.arrays["minimal_eps"], outcome.minimal_eps.numpy())
    assert evidence.facts["battery"] == "custom"
    assert evidence.facts["protocol"] == "pgd; random-noise; carlini-wagner"
    assert [row["reason"]["text"] for row in evidence.facts["rows"] if row["attack"] == "carlini-wagner"] == [
        "This attack exists for l2, not for linf."
    ]
