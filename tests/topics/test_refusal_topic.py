"""Refusal from images to verdicts: cells of every method, thresholds judged on the other half, worn images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_context import bare_context
from made_entries import entry, results_of
from made_run import built_rows, finding_of
from PIL import Image

from audit.core.cell import Cell
from audit.core.errors import DataError, NotApplicable
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.data.foreign import foreign_split
from audit.document.locale import load_locale
from audit.metrics.classification import probabilities
from audit.metrics.foreign_images import FOREIGN_KINDS, foreign_images
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Task
from audit.report.summary import localised_text
from audit.results.run_results import RunResults
from audit.topics.refusal.facts import SHIFT_SEVERITIES
from audit.topics.refusal.study import refusal


def cell(method: str, **settings: object) -> Cell:
    return Cell("refusal", method, settings=settings)


def asked(model: ModelUnderTest, batch: Batch, name: Cell, given: Mapping[str, Evidence] | None = None) -> Evidence:
    context = replace(bare_context(model, batch, name), evidence=dict(given or {}).__getitem__)
    return refusal(context, name)


@pytest.fixture
def reference(cnn_model: ModelUnderTest, cnn_batch: Batch) -> dict[str, Evidence]:
    return {"reference": asked(cnn_model, cnn_batch, cell("reference"))}


def test_what_is_usual_is_read_from_features_and_costs_a_forward_an_image(
    cnn_model: ModelUnderTest, cnn_batch: Batch, reference: dict[str, Evidence]
) -> None:
    evidence = reference["reference"]
    present = len(set(cnn_batch.labels.tolist()))
    assert evidence.arrays["means"].shape == (present, 108) and evidence.arrays["precision"].shape == (108, 108)
    assert evidence.forwards == 10 and evidence.facts["layer"] == "6"
    clean = asked(cnn_model, cnn_batch, cell("clean"), reference)
    np.testing.assert_allclose(clean.arrays["logits"], cnn_model.logits(cnn_batch.images).numpy(), atol=1e-6)
    assert clean.arrays["mahalanobis"].shape == clean.arrays["kNN"].shape == (10,)


def test_corrupted_images_are_those_of_the_corruption_study(
    cnn_model: ModelUnderTest, cnn_batch: Batch, reference: dict[str, Evidence]
) -> None:
    from audit.core.registry import find
    from audit.topics.corruptions.study import corrupted

    evidence = asked(cnn_model, cnn_batch, cell("corrupted", corruption="gaussian-noise"), reference)
    assert evidence.arrays["logits"].shape == (len(SHIFT_SEVERITIES), 10, 4) and evidence.forwards == 30
    images = corrupted(find("corruption", "gaussian-noise"), cnn_model.device, cnn_batch.ids, cnn_batch.images, 5, 0)
    np.testing.assert_allclose(evidence.arrays["logits"][-1], cnn_model.logits(images).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_foreign_images_are_drawn_by_seed_in_any_size(kind: str, channels: int) -> None:
    shape = (channels, 20, 26)
    images = foreign_images(kind, 7, shape, 0)
    assert tuple(images.shape) == (7, *shape) and 0 <= images.min() < images.max() <= 1
    assert images.dtype == torch.float32 and (images.flatten(1).std(1) > 0).all()
    torch.testing.assert_close(images, foreign_images(kind, 7, shape, 0))
    assert not torch.equal(images, foreign_images(kind, 7, shape, 1))


def test_foreign_images_of_the_user_are_a_folder_or_a_data_source(
    cnn_model: ModelUnderTest, cnn_batch: Batch, reference: dict[str, Evidence], tmp_path: Path
) -> None:
    for number in range(3):
        Image.new("RGB", (30, 20), (number * 90, 10, 200)).save(tmp_path / f"{number}.png")
    split = foreign_split(str(tmp_path), (1, 12, 12))
    assert len(split) == 3 and split.batch([0]).images.shape == (1, 1, 12, 12)
    assert foreign_split("shapes:size=16", (3, 12, 12)).batch([0]).images.shape == (1, 3, 12, 12)
    name = cell("foreign", kind="own", count=2, source="fingerprint")
    task = Task(name, "standard", bare_context(cnn_model, cnn_batch, name).task.examples, 0, {"source": str(tmp_path)})
    context = replace(bare_context(cnn_model, cnn_batch, name), task=task, evidence=reference.__getitem__)
    assert refusal(context, name).arrays["logits"].shape == (2, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        foreign_split(str(tmp_path / "empty"), (1, 12, 12))


def test_attacked_images_are_those_that_broke(
    cnn_model: ModelUnderTest, cnn_batch: Batch, reference: dict[str, Evidence]
) -> None:
    moved = (cnn_batch.images + 0.05).clamp(0, 1)
    robust = np.r_[np.zeros(4), np.ones(6)]
    attacks = Evidence(
        Cell("robustness", "quick"),
        "measured",
        entry("robustness", "standard", {"robust": robust})[1].measurements,
        arrays={"adversarial": moved.numpy()},
    )
    evidence = asked(cnn_model, cnn_batch, cell("attacked"), {**reference, "robustness": attacks})
    np.testing.assert_allclose(evidence.arrays["logits"], cnn_model.logits(moved[:4]).numpy(), atol=1e-6)
    none = replace(attacks, measurements=entry("robustness", "standard", {"robust": np.ones(10)})[1].measurements)
    with pytest.raises(NotApplicable, match="broken"):
        asked(cnn_model, cnn_batch, cell("attacked"), {**reference, "robustness": none})


def made_results(
    *, sharpness: float = 8.0, worn: float = 1.0, apart: float = 3.0, count: int = 800, temperature: float = 1.0
) -> RunResults:
    """Calibrated answers; under corruption the labels are drawn of `worn` times the logits; foreign images apart."""
    draw = np.random.default_rng(2)

    def answers(size: int, scale: float) -> dict[str, np.ndarray]:
        logits = draw.normal(0, sharpness, (size, 6))
        labels = (probabilities(logits * scale).cumsum(1) > draw.random((size, 1))).argmax(1)
        return {"logits": (logits * temperature).astype(np.float32), "labels": labels.astype(np.int64)}

    def distances(*size: int, mean: float = 0.0) -> dict[str, np.ndarray]:
        return {name: draw.normal(mean, 1, size).astype(np.float32) for name in ("mahalanobis", "kNN")}

    clean = answers(count, 1.0)
    correct = clean["logits"].argmax(1) == clean["labels"]
    shifted = answers(count // 2, worn)
    stacked = {"logits": np.stack([shifted["logits"]] * 3), "labels": shifted["labels"]}
    first = {name: values[: count // 2] for name, values in clean.items()}
    strange = {"logits": draw.normal(0, 0.1, (200, 6)).astype(np.float32), **distances(200, mean=apart)}
    size = {"x": np.zeros(count // 2)}
    return results_of(
        entry("accuracy", "standard", {"correct": correct}, arrays=clean),
        entry("refusal", "standard", size, method="clean", arrays={**first, **distances(count // 2)}),
        entry(
            "refusal",
            "standard",
            size,
            method="corrupted",
            settings={"corruption": "fog"},
            arrays={**stacked, **distances(3, count // 2)},
        ),
        entry("refusal", "standard", {}, method="foreign", settings={"kind": "noise"}, arrays=strange),
    )


def test_a_threshold_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    found = finding_of(made_results(), "selective-risk")
    assert found.verdict == "pass" and found.interval is not None and found.interval[0] <= 0.05
    (row,) = built_rows("risk_coverage", made_results())
    assert row.threshold is not None and row.accepted.n == 400 and row.bound <= row.target
    assert [point.coverage for point in row.points][-1] == 1.0 and 0 < row.e_aurc < row.aurc
    vague = finding_of(made_results(sharpness=0.5), "selective-risk")
    assert vague.verdict == "warn" and "cannot keep its errors at 5%" in vague.title
    few, open_ = (finding_of(made_results(**case), "selective-risk") for case in ({"count": 150}, {"sharpness": 4.0}))
    assert few.verdict == open_.verdict == "inconclusive"
    assert open_.interval is not None and open_.interval[0] < 0.05 < open_.interval[1]


def test_sets_hold_what_they_promise_on_clean_images_and_not_where_answers_are_worn() -> None:
    assert finding_of(made_results(), "conformal-coverage").verdict == "pass"
    worn = finding_of(made_results(worn=0.2), "conformal-coverage")
    assert worn.verdict == "warn" and "under fog" in worn.title.casefold()
    assert "雾" in localised_text(worn, load_locale("zh"))["title"]
    rows = built_rows("conformal_sets", made_results(worn=0.2))
    assert {row.method for row in rows} == {"THR", "APS", "RAPS"}
    clean = [row for row in rows if row.images == "clean"]
    assert all(row.band[0] - 0.02 <= row.coverage.estimate and len(row.sizes) == 10 for row in clean)
    assert all(row.coverage.n < 400 for row in rows if row.severity)  # none of the half that calibrated


def test_confidence_under_corruption_is_believed_only_where_it_is_right() -> None:
    assert finding_of(made_results(), "calibration-under-corruption").verdict == "pass"
    off = finding_of(made_results(worn=0.2), "calibration-under-corruption")
    assert off.verdict == "warn" and off.interval is not None and off.interval[0] > 0.1
    told = finding_of(made_results(worn=0.5), "calibration-under-corruption")
    assert told.verdict == "inconclusive" and told.interval is not None and told.interval[0] < 0.1 < told.interval[1]


def test_foreign_images_are_told_by_the_score_that_is_best_on_the_other_half() -> None:
    told = finding_of(made_results(), "out-of-distribution")
    assert told.verdict == "pass" and told.unit == "AUROC" and told.estimate is not None and told.estimate > 0.9
    alike = finding_of(made_results(apart=0.0, sharpness=0.1), "out-of-distribution")
    assert alike.verdict == "warn"
    near = finding_of(made_results(apart=1.3, sharpness=0.1), "out-of-distribution")
    assert near.verdict == "inconclusive" and near.interval is not None and near.interval[0] < 0.8 < near.interval[1]
    rows = built_rows("out_of_distribution", made_results())
    assert {(row.images, row.kind) for row in rows} == {("noise", "foreign"), ("fog", "corrupted")}
