"""Threats beside the ball: what is made on some images is scored on others, and the evidence says which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import NotApplicable, UsageError
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.other_threats.study import other_threats
from audit.topics.surrogate.study import surrogate, surrogate_model
from audit.training.surrogate import surrogate_of

BALL = {"norm": "linf", "eps": 0.08}
FEW = {"steps": 20, "images_a_step": 16, "loss": "margin"}
CELLS = {
    "spatial": Cell(
        "other-threats",
        "spatial",
        settings={"rotation": 10, "translation": 1, "attack": {"angles": 5, "shifts": 3}},
    ),
    "universal": Cell("other-threats", "universal", settings={"attack": FEW}, threat=BALL),
    "patch": Cell("other-threats", "patch", settings={"area": 0.1, "targets": 0, "attack": FEW}),
    "aimed": Cell("other-threats", "patch", settings={"area": 0.1, "targets": 4, "attack": FEW}),
    "transfer": Cell("other-threats", "transfer", threat=BALL, inputs={"surrogate": "key"}),
}
TAUGHT = Cell("surrogate", "imitation", settings={"every": 2, "epochs": 3, "elsewhere": False})


@pytest.fixture
def noise(cnn_model: ModelUnderTest) -> Batch:
    """160 images of noise, two of them labelled wrong."""
    images = torch.rand(160, 1, 12, 12, generator=torch.Generator().manual_seed(11))
    labels = cnn_model.predictions(images)
    labels[:2] = (labels[:2] + 1) % 4
    return Batch(images, labels, tuple(f"test/{i:05d}" for i in range(160)))


def taught(model: ModelUnderTest, batch: Batch, cell: Cell = TAUGHT) -> Evidence:
    with TemporaryDirectory() as scratch:
        return surrogate(replace(bare_context(model, batch, cell), scratch=Path(scratch)), cell)


def found_for(name: str, model: ModelUnderTest, batch: Batch, teaching: Cell = TAUGHT) -> Evidence:
    cell = CELLS[name]
    context = bare_context(model, batch, cell)
    if name == "transfer":
        surrogate_evidence = taught(model, batch, teaching)
        context = replace(context, evidence=lambda name: surrogate_evidence)
    return other_threats(context, cell)


@pytest.mark.parametrize("name", CELLS)
def test_what_is_counted_is_what_the_facts_say(name: str, cnn_model: ModelUnderTest, noise: Batch) -> None:
    evidence = found_for(name, cnn_model, noise)
    withstood, facts = evidence.measurement("withstood").per_example, evidence.facts
    scored = np.isfinite(withstood)
    assert len(withstood) == 160 and scored.sum() == facts["scored"] and facts["faults"] == 0
    assert 0 < np.nansum(withstood) < facts["control"] <= facts["right"] <= facts["scored"]
    if name == "spatial":
        assert scored.all() and facts["made_on"] == 0 and facts["right"] == 158
    else:
        assert not scored[0::2].any() and facts["made_on"] == 80, "made on one half, scored on the other"
    assert evidence.forwards > 160
    assert (evidence.backwards > 0) == (name != "spatial")


def test_a_second_run_gives_the_same_evidence(cnn_model: ModelUnderTest, noise: Batch) -> None:
    for name in CELLS:
        first, second = (found_for(name, cnn_model, noise) for _ in range(2))
        assert first.facts == second.facts
        assert np.array_equal(*(one.measurement("withstood").per_example for one in (first, second)), equal_nan=True)


def test_a_surrogate_taught_elsewhere_leaves_every_image_to_be_attacked(
    cnn_model: ModelUnderTest, noise: Batch
) -> None:
    cell = replace(TAUGHT, settings=TAUGHT.settings | {"elsewhere": True})
    evidence = found_for("transfer", cnn_model, noise, cell)
    assert np.isfinite(evidence.measurement("withstood").per_example).all() and evidence.facts["scored"] == 160


def test_a_target_leaves_out_the_images_of_its_class(cnn_model: ModelUnderTest, noise: Batch) -> None:
    evidence = found_for("aimed", cnn_model, noise)
    label = cnn_model.classes.index(evidence.facts["target"])
    elsewhere = (noise.labels != label) & (cnn_model.predictions(noise.images) != label)
    scored = torch.from_numpy(np.isfinite(evidence.measurement("withstood").per_example))
    assert torch.equal(scored[1::2], elsewhere[1::2]) and found_for("patch", cnn_model, noise).facts["target"] == ""


def test_the_surrogate_learns_from_predictions_alone(cnn_model: ModelUnderTest, noise: Batch) -> None:
    """Labels play no part, and the images it was taught on are not judged."""
    mislabelled = replace(noise, labels=(noise.labels + 1) % 4)
    first, second = (taught(cnn_model, batch) for batch in (noise, mislabelled))
    agrees = first.measurement("agrees").per_example
    assert np.isnan(agrees[::2]).all() and np.isfinite(agrees[1::2]).all() and first.facts["taught_on"] == 80
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
    model = surrogate_model(first, "cpu")
    assert first.facts["agreement"] == np.nanmean(agrees)
    same = (model.predictions(noise.images) == cnn_model.predictions(noise.images))[1::2]
    assert torch.equal(same, torch.from_numpy(agrees[1::2]).bool())


def test_an_unfinished_surrogate_with_other_settings_is_named(
    cnn_model: ModelUnderTest, noise: Batch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, epochs in (("a", 2), ("b", 1)):
        cell = Cell("surrogate", "imitation", settings={**TAUGHT.settings, "epochs": epochs})
        surrogate(replace(bare_context(cnn_model, noise, cell), scratch=tmp_path / folder), cell)
    (said,) = [record.getMessage() for record in caplog.records if "unfinished" in record.getMessage()]
    assert "the surrogate of the standard model" in said and "epochs (2 there, 1 now)" in said


@pytest.mark.parametrize(("count", "words"), [(40, "at least 64 images")])
def test_too_few_images_teach_nothing(count: int, words: str, cnn_model: ModelUnderTest, noise: Batch) -> None:
    with pytest.raises(NotApplicable, match=words):
        surrogate_of(cnn_model, noise.select(torch.arange(count)), seed=0)


def test_a_model_of_one_answer_teaches_nothing(cnn_model: ModelUnderTest, noise: Batch) -> None:
    one = noise.select(cnn_model.predictions(noise.images) == 1)
    with pytest.raises(NotApplicable, match="one class"):
        surrogate_of(cnn_model, one, seed=0)


def test_bad_questions_are_sentences(cnn_model: ModelUnderTest, noise: Batch) -> None:
    def ask(cell: Cell, batch: Batch = noise) -> Any:
        return other_threats(bare_context(cnn_model, batch, cell), cell)

    with pytest.raises(UsageError, match="universal"):
        ask(replace(CELLS["patch"], method="universla"))
    with pytest.raises(NotApplicable, match="fewer than the 8"):
        ask(CELLS["universal"], noise.select(torch.arange(6)))


class Shaken(torch.nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + 0.02 * torch.randn_like(logits)


def test_a_random_model_is_judged_by_its_mean(cnn_model: ModelUnderTest, noise: Batch) -> None:
    net = torch.nn.Sequential(cnn_model.net, Shaken())
    model = ModelUnderTest(net, classes=cnn_model.classes, input_shape=cnn_model.input_shape, device="cpu")
    first, second = (found_for("universal", model, noise) for _ in range(2))
    assert first.facts == second.facts and first.facts["draws"] == 20 and model.module.draws == 1
    assert found_for("universal", cnn_model, noise).facts["draws"] == 1
