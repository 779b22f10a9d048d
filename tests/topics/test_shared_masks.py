"""LIME in an audit spends what SHAP had asked, and nothing else comes to share by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import AuditError
from audit.core.evidence import Evidence
from audit.core.types import Batch, Images
from audit.execution.mask_reuse import queue_of
from audit.explanation.mask_reuse import explain_many
from audit.explanation.run import AttributionResult
from audit.masking.cache import MaskCache
from audit.masking.segmentation import Segmentation
from audit.models.under_test import ModelUnderTest
from audit.storage.store import Store
from audit.topics.attribution_quality import study as judged
from audit.topics.attribution_quality.study import attribution_quality
from audit.topics.drift import study as drifting
from audit.topics.drift.study import drift
from audit.topics.explanations.study import explanation

GRID = (torch.arange(12) // 2)[:, None] * 6 + (torch.arange(12) // 2)[None]
"""36 segments: too many to ask every mask."""
LIME: dict[str, Any] = {"method": {"samples": 400}}
SAMPLED: dict[str, Any] = {"method": {"samples": 600}}


@pytest.fixture
def many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(images: Images) -> Segmentation:
        return Segmentation(GRID.expand(len(images), 12, 12).contiguous(), "a grid, 36 segments an image")

    monkeypatch.setattr("audit.execution.explanation_inputs.segment_images", made)


@pytest.fixture
def batch(cnn_batch: Batch) -> Batch:
    return cnn_batch.select(torch.arange(4))


def found(
    of: Any, model: ModelUnderTest, batch: Batch, method: str, inputs: Mapping[str, Evidence] | None = None, **rest: Any
) -> Evidence:
    """The study's evidence; an input that is missing reads as the engine has it."""
    cell = Cell(of.__name__, method, inputs=dict.fromkeys(inputs or {}, "key"), **rest)

    def read(name: str) -> Evidence:
        evidence = (inputs or {})[name]
        if evidence.status == "failed":
            raise AuditError("this study needs another, which failed: see its own reason.")
        return evidence

    evidence: Evidence = of(replace(bare_context(model, batch, cell), evidence=read), cell)
    return evidence


def test_after_every_mask_was_asked_lime_asks_none_and_is_what_it_is_alone(
    cnn_model: ModelUnderTest, batch: Batch
) -> None:
    lender = found(explanation, cnn_model, batch, "shap")
    alone = found(explanation, cnn_model, batch, "lime", settings=LIME)
    shared = found(explanation, cnn_model, batch, "lime", {"masks": lender}, settings=LIME)
    assert shared.forwards == 0 and alone.forwards > 100
    assert shared.facts["shared"] == {"shap": alone.forwards - len(batch)}
    assert "shared" not in alone.facts and "shared" not in lender.facts
    assert shared.arrays.keys() == alone.arrays.keys()
    for name, array in alone.arrays.items():
        assert np.allclose(shared.arrays[name], array, atol=1e-5), name
    assert {k: v for k, v in shared.facts.items() if k != "shared"} == alone.facts


@pytest.mark.parametrize("together", [1, 3, 4])
def test_above_that_lime_is_the_exchanged_one_for_fewer_passes(
    together: int, cnn_model: ModelUnderTest, batch: Batch, many_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.topics.explanations.study._PIXELS_PER_STEP", together * 144)
    lender = found(explanation, cnn_model, batch, "shap", settings=SAMPLED)
    alone = found(explanation, cnn_model, batch, "lime", settings=LIME)
    shared = found(explanation, cnn_model, batch, "lime", {"masks": lender}, settings=LIME)
    asked = explain_many(
        cnn_model,
        batch.images,
        methods={"shap": SAMPLED["method"], "lime": LIME["method"]},
        segments=GRID,
        ids=batch.ids,
    )
    assert np.allclose(shared.arrays["attributions"], asked["lime"].attributions.numpy(), atol=1e-5)
    assert shared.forwards == asked["lime"].passes.forwards < 0.8 * alone.forwards
    assert shared.facts["shared"]["shap"] > 100
    assert not np.allclose(shared.arrays["attributions"], alone.arrays["attributions"], atol=1e-3)


def test_what_the_store_gives_back_is_as_good_as_what_was_just_found(
    cnn_model: ModelUnderTest, batch: Batch, many_segments: None, tmp_path: Any
) -> None:
    lender = found(explanation, cnn_model, batch, "shap", settings=SAMPLED)
    store = Store(tmp_path)
    store.put(lender)
    read = store.get(lender.cell.key)
    assert read is not None
    now, later = (found(explanation, cnn_model, batch, "lime", {"masks": one}, settings=LIME) for one in (lender, read))
    assert now.forwards == later.forwards
    for name, array in now.arrays.items():
        assert np.array_equal(array, later.arrays[name]), name


def test_where_shap_failed_lime_asks_for_itself_and_claims_nothing(cnn_model: ModelUnderTest, batch: Batch) -> None:
    alone = found(explanation, cnn_model, batch, "lime", settings=LIME)
    broken = Evidence(Cell("explanation", "shap"), "failed", reason="out of memory")
    left = found(explanation, cnn_model, batch, "lime", {"masks": broken}, settings=LIME)
    assert left.facts == alone.facts and left.forwards == alone.forwards
    assert np.array_equal(left.arrays["attributions"], alone.arrays["attributions"])


def test_adversarial_lime_spends_what_adversarial_shap_asked(cnn_model: ModelUnderTest, batch: Batch) -> None:
    part, moved = batch.select(torch.arange(3)), 1 - batch.images[:3]
    attacked = Evidence(Cell("robustness", "quick"), "measured", arrays={"adversarial": moved.numpy()})
    on = {"on": "adversarial"}
    inputs = {"robustness": attacked}
    lender = found(explanation, cnn_model, part, "shap", inputs, settings=on)
    alone = found(explanation, cnn_model, part, "lime", inputs, settings=LIME | on)
    shared = found(explanation, cnn_model, part, "lime", inputs | {"masks": lender}, settings=LIME | on)
    assert shared.forwards == 0 and len(shared.arrays["attributions"]) == 3
    assert np.allclose(shared.arrays["attributions"], alone.arrays["attributions"], atol=1e-5)


def test_lime_explains_the_class_that_shap_did(cnn_model: ModelUnderTest, batch: Batch) -> None:
    """A model that is not deterministic may predict another one; the answers hold for this one."""
    lender = found(explanation, cnn_model, batch, "shap")
    other = (lender.arrays["targets"] + 1) % 4
    shared = found(
        explanation, cnn_model, batch, "lime", {"masks": replace(lender, arrays={**lender.arrays, "targets": other})}
    )
    assert np.array_equal(shared.arrays["targets"], other)


@pytest.mark.usefixtures("many_segments")
class TestHeldAgainst:
    """A map that was moved is held against the shared one: under the same draw, and never with its answers."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, bool, AttributionResult]]:
        asked = []

        def listening(*given: Any, **named: Any) -> AttributionResult:
            queue = named["queue"]
            assert queue is None or len(queue) == 0, "an answer of another image or model"
            answer = asking(*given, **named)
            asked.append((named.get("seed"), queue is not None, answer))
            return answer

        asking = judged.run_cell_method
        for room in (judged, drifting):
            monkeypatch.setattr(room, "run_cell_method", listening)
        return asked

    def shared(self, model: ModelUnderTest, batch: Batch) -> dict[str, Evidence]:
        lender = found(explanation, model, batch, "shap", settings=SAMPLED)
        return {
            "explanation": found(explanation, model, batch, "lime", {"masks": lender}, settings=LIME),
            "masks": lender,
        }

    def test_attribution_quality_draws_alike_with_the_seed_of_the_map_and_afresh_with_others(
        self, cnn_model: ModelUnderTest, batch: Batch, asked: list[Any]
    ) -> None:
        inputs = self.shared(cnn_model, batch)
        settings = LIME | {"infidelity_samples": 4, "sensitivity_samples": 1, "stages": 1, "seeds": 2}
        evidence = found(attribution_quality, cnn_model, batch, "lime", inputs, settings=settings)
        assert evidence.measurement("seed_stability").mean < 1
        assert [with_draws for _, with_draws, _ in asked] == [True, True, False, False]
        assert [seed == 0 for seed, _, _ in asked] == [True, True, False, False]

    def test_maps_of_images_that_hardly_move_hardly_move(
        self, cnn_model: ModelUnderTest, batch: Batch, asked: list[Any]
    ) -> None:
        inputs = self.shared(cnn_model, batch)
        settings, threat = LIME | {"kind": "constant-label"}, {"norm": "linf", "eps": 1e-4}
        evidence = found(drift, cnn_model, batch, "lime", inputs, settings=settings, threat=threat)
        assert np.nanmax(evidence.measurement("shift_random").per_example) < 0.01
        assert all(with_draws for _, with_draws, _ in asked) and len(asked) == 2
        unshared = replace(inputs["explanation"], facts={})
        afresh = found(
            drift, cnn_model, batch, "lime", inputs | {"explanation": unshared}, settings=settings, threat=threat
        )
        assert np.nanmin(afresh.measurement("shift_random").per_example) > 0.05, "the draw is told from the move"


def test_the_lender_keeps_what_its_queue_learned(cnn_model: ModelUnderTest, batch: Batch) -> None:
    lender = found(explanation, cnn_model, batch, "shap")
    answers = MaskCache.of(lender.arrays)
    segments, targets = (torch.from_numpy(lender.arrays[name]) for name in ("segments", "targets"))
    sizes: Tensor = segments.flatten(1).amax(1) + 1
    assert answers.counts.tolist() == (2**sizes).tolist() and answers.offered.all()
    queue = queue_of(cnn_model, lender.cell, batch.images, targets, segments)
    queue.preload(answers)
    whole = queue.scores(torch.arange(4), torch.ones(4, int(sizes.max()), dtype=torch.bool))
    assert torch.allclose(whole, cnn_model.logits(batch.images)[torch.arange(4), targets], atol=1e-5)
    bytes_kept = sum(array.nbytes for array in answers.arrays().values())
    assert bytes_kept <= 7 * answers.counts.sum() + 8 * len(batch)
