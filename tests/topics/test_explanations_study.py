"""The explanation and faithfulness studies as the runner calls them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Evidence
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest
from audit.storage.store import Store
from audit.topics.explanations.study import explanation
from audit.topics.faithfulness.study import faithfulness
from audit.topics.robustness.facts import RobustnessFacts


def run(model: ModelUnderTest, batch: Batch, attribution: str, **settings: Any) -> Evidence:
    cell = Cell("explanation", attribution, settings={"method": {}, "output": "logit", "baseline": None, **settings})
    return explanation(bare_context(model, batch, cell), cell)


def judge(model: ModelUnderTest, batch: Batch, explained: Evidence, **settings: Any) -> Evidence:
    cell = Cell("faithfulness", explained.cell.method, settings={"steps": 6, **settings})
    context = replace(bare_context(model, batch, cell), evidence=lambda name: {"explanation": explained}[name])
    return faithfulness(context, cell)


def test_evidence_is_what_the_method_says(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    found = run(cnn_model, cnn_batch, "lime", method={"samples": 40})
    direct = explain_images(cnn_model, cnn_batch.images, method="lime", samples=40, ids=cnn_batch.ids)
    assert found.status == "measured"
    assert np.array_equal(found.arrays["attributions"], direct.attributions.numpy())
    assert np.array_equal(found.arrays["targets"], cnn_batch.labels.numpy())
    assert found.arrays["segments"].shape == (10, 12, 12)
    assert found.measurement("r2").per_example.shape == (10,)
    assert found.facts["output"] == "logit"
    assert found.facts["baseline"] == "segment-mean"
    assert "segments an image" in str(found.facts["segments"])
    assert found.forwards > 300


@pytest.mark.parametrize("name", ["deep-shap", "expected-gradients"])
def test_methods_that_average_over_references_are_given_the_first_clean_images(
    name: str, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    alone, found = (run(cnn_model, cnn_batch, name, references=count) for count in (0, 4))
    direct = explain_images(
        cnn_model, cnn_batch.images, method=name, references=cnn_batch.images[:4], ids=cnn_batch.ids
    )
    assert direct.attributions is not None and str(direct.facts["baseline"]) == "4 reference images"
    assert np.array_equal(found.arrays["attributions"], direct.attributions.numpy())
    assert not np.allclose(found.arrays["attributions"], alone.arrays["attributions"])
    assert found.facts["baseline"]["text"] == "the first 4 of the explained images" and alone.facts["baseline"] == "0"
    few = run(cnn_model, cnn_batch.select(torch.arange(3)), name, references=4)
    assert few.facts["baseline"] == "0", "one image among too few would be held against itself"


def test_adversarial_maps_explain_the_clean_prediction_on_clean_segments(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """Images are found by their place in the audit order, whatever order they are stored in."""
    part, moved = cnn_batch.select(torch.arange(6)), 1 - cnn_batch.images
    stored = [7, 5, 3, 1, 0, 2, 4, 6]
    context = adversarial_context(cnn_model, part, moved[stored], np.array(stored))
    found = explanation(context, context.task.cell)
    clean = run(cnn_model, part, "lime", method={"samples": 40})
    direct = explain_images(
        cnn_model,
        moved[:6],
        method="lime",
        samples=40,
        ids=part.ids,
        targets=torch.from_numpy(clean.arrays["targets"]),
        segments=torch.from_numpy(clean.arrays["segments"]),
    )
    assert len(found.arrays["attributions"]) == found.facts["examples"] == 6
    assert np.array_equal(found.arrays["targets"], clean.arrays["targets"])
    assert np.array_equal(found.arrays["segments"], clean.arrays["segments"])
    assert direct.attributions is not None
    assert np.array_equal(found.arrays["attributions"], direct.attributions.numpy())
    assert not np.allclose(found.arrays["attributions"], clean.arrays["attributions"])


def test_images_without_an_adversarial_one_are_not_explained_as_others(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    context = adversarial_context(cnn_model, cnn_batch, cnn_batch.images[:6], np.arange(2, 8))
    with pytest.raises(NotApplicable, match=r"no adversarial image of 4 of these 10 examples .* number 0 of"):
        explanation(context, context.task.cell)


def test_earlier_evidence_of_attacks_holds_the_first_images(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    part, moved = cnn_batch.select(torch.arange(4)), 1 - cnn_batch.images
    new, old = (adversarial_context(cnn_model, part, moved[:6], positions) for positions in (np.arange(6), None))
    assert np.array_equal(*(explanation(context, context.task.cell).arrays["attributions"] for context in (new, old)))


def adversarial_context(model: ModelUnderTest, batch: Batch, images: Images, positions: np.ndarray | None) -> Context:
    """A cell that explains the adversarial images of a batch which begins the audit order."""
    arrays = {"adversarial": images.numpy()} | ({} if positions is None else {"adversarial_positions": positions})
    robustness = Evidence(Cell("robustness", "quick"), "measured", arrays=arrays)
    cell = Cell("explanation", "lime", settings={"method": {"samples": 40}, "on": "adversarial"})
    return replace(bare_context(model, batch, cell), evidence=lambda name: {"robustness": robustness}[name])


@pytest.mark.parametrize(
    ("name", "method"), [("lime", {"samples": 40}), ("integrated-gradients", {}), ("grad-cam", {})]
)
def test_large_images_are_explained_a_few_at_a_time_to_the_same_answer(
    name: str, method: dict[str, Any], cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(cnn_model, cnn_batch, name, method=method)
    monkeypatch.setattr("audit.topics.explanations.study._PIXELS_PER_STEP", 4 * 144)
    parts = run(cnn_model, cnn_batch, name, method=method)
    assert parts.arrays.keys() == whole.arrays.keys()
    for array in whole.arrays:
        assert np.allclose(parts.arrays[array], whole.arrays[array], atol=1e-5), array
    for mine, theirs in zip(parts.measurements, whole.measurements, strict=True):
        assert mine.name == theirs.name and np.allclose(mine.per_example, theirs.per_example, atol=1e-4)


def test_a_stop_takes_effect_between_large_images(
    cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.topics.explanations.study._PIXELS_PER_STEP", 4 * 144)
    cell, seen = Cell("explanation", "saliency", settings={"method": {}}), []
    context = replace(
        bare_context(cnn_model, cnn_batch, cell, stopping=lambda: len(seen) == 2, scratch=tmp_path),
        progress=lambda done, total: seen.append((done, total)),
    )
    with pytest.raises(Interrupted, match="while explaining with saliency"):
        explanation(context, cell)
    assert seen == [(1, 3), (2, 3)]


def test_not_applicable_carries_its_reason_through_both_studies(linear_model: ModelUnderTest) -> None:
    batch = Batch(torch.rand(3, 1, 6, 6), torch.zeros(3, dtype=torch.int64), ("a", "b", "c"))
    found = run(linear_model, batch, "grad-cam")
    assert found.status == "not_applicable"
    assert "attributions" not in found.arrays
    judged = judge(linear_model, batch, found)
    assert judged.status == "not_applicable"
    assert judged.reason == found.reason


def test_true_map_of_a_linear_model_beats_every_control(linear_model: ModelUnderTest) -> None:
    images = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    batch = Batch(images, linear_model.predictions(images), tuple(f"x/{i}" for i in range(12)))
    found = run(linear_model, batch, "integrated-gradients", baseline="mean")
    judged = judge(linear_model, batch, found, steps=12)
    deletion = judged.measurement("deletion_area").mean
    insertion = judged.measurement("insertion_area").mean
    for control in ("random", "centre", "edges", "blurred"):
        assert deletion < judged.measurement(f"deletion_area_{control}").mean - 0.02
        assert insertion > judged.measurement(f"insertion_area_{control}").mean + 0.02
        assert f"deletion_area_blur_{control}" in {m.name for m in judged.measurements}
    assert judged.arrays["deletion_curve"].shape == (12, 13)
    assert "12 equal steps" in judged.facts["protocol"]["text"]
    assert judged.forwards > 0


def test_evidence_survives_the_store_and_repeats_bit_by_bit(
    cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Any
) -> None:
    first, second = (judge(cnn_model, cnn_batch, run(cnn_model, cnn_batch, "saliency")) for _ in range(2))
    store = Store(tmp_path)
    store.put(first)
    read = store.get(first.cell.key)
    assert read is not None
    for one in second.measurements:
        assert np.array_equal(read.measurement(one.name).per_example, one.per_example)


def test_stop_is_heard(cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path) -> None:
    cell = Cell("explanation", "saliency")
    with pytest.raises(Interrupted):
        explanation(bare_context(cnn_model, cnn_batch, cell, stopping=lambda: True, scratch=tmp_path), cell)


def test_only_images_that_an_attack_broke_are_explained_as_adversarial(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """Of four images one withstood, one was wrong before any attack and two were broken at the eps of the verdict."""
    part = cnn_batch.select(torch.arange(4))
    moved = (part.images + 0.1).clamp(0, 1)
    context = adversarial_context(cnn_model, part, moved, np.arange(4))
    attacked = context.evidence("robustness")
    arrays = {**attacked.arrays, "broken_by": np.array([[0, -1, -1, -1], [0, 2, -1, 1]])}
    facts = RobustnessFacts(eps=(0.05, 0.1), headline=0.1, attacks=("clean", "fgsm", "pgd")).dump()
    attacked = replace(attacked, arrays=arrays, facts=facts)
    context = replace(context, evidence=lambda name: {"robustness": attacked}[name])
    found = explanation(context, context.task.cell)
    assert found.arrays["explained_positions"].tolist() == [1, 3]
    both = part.select(torch.tensor([1, 3]))
    direct = explain_images(
        cnn_model,
        moved[[1, 3]],
        method="lime",
        samples=40,
        ids=both.ids,
        targets=cnn_model.predictions(both.images),
        segments=torch.from_numpy(found.arrays["segments"]),
        baseline="segment-mean",
    )
    assert direct.attributions is not None
    assert np.array_equal(found.arrays["attributions"], direct.attributions.numpy())
    assert np.isnan(found.measurement("r2").per_example).tolist() == [True, False, True, False]

    withstood = replace(attacked, arrays={**arrays, "broken_by": np.array([[0, -1, -1, -1], [0, -1, -1, -1]])})
    context = replace(context, evidence=lambda name: {"robustness": withstood}[name])
    none = explanation(context, context.task.cell)
    assert none.status == "not_applicable" and "No attack broke" in str(none.reason) and none.forwards == 0
