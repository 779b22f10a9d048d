"""Slices from images to a verdict: a darkened class is found and described, shuffled answers find nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from made_entries import entry, results_of
from made_run import built_rows, finding_of

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence
from audit.core.types import Batch
from audit.document.locale import load_locale
from audit.explanation.features import features_and_logits, head_layer, penultimate_features
from audit.metrics.image_attributes import attribute_names, image_attributes
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Task
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults
from audit.results.stopping import share_of_entries
from audit.topics.slices.study import slices

COUNT, DARK = 1000, 2


@pytest.fixture
def darkened(cnn_model: ModelUnderTest) -> Batch:
    """A thousand images of noise in four classes, those of one class darkened."""
    images = torch.rand(COUNT, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.4
    labels = torch.arange(COUNT) % 4
    images[labels == DARK] -= 0.38  # contrast stays
    return Batch(images, labels, tuple(f"test/{i:05d}" for i in range(COUNT)))


def accuracy(batch: Batch, correct: Array) -> tuple[Task, Evidence]:
    arrays = {"logits": np.eye(4, dtype=np.float32)[batch.labels.numpy()], "labels": batch.labels.numpy()}
    return entry("accuracy", "standard", {"correct": correct}, arrays=arrays)


def described(
    model: ModelUnderTest, batch: Batch, correct: Array, cohorts: Mapping[str, Array] | None = None
) -> RunResults:
    """The results of both cells of the study, with the accuracy that they read."""
    clean = accuracy(batch, correct)
    attributes = Cell("slices", "attributes", inputs={"accuracy 0": clean[0].cell.key})
    inputs = {"accuracy 0": clean[1]}
    context = replace(
        bare_context(model, batch, attributes), evidence=inputs.__getitem__, cohorts=lambda: dict(cohorts or {})
    )
    evidence = slices(context, attributes)
    grouping = Cell("slices", "clusters", inputs={"part 0": attributes.key})
    grouped = slices(replace(bare_context(model, batch, grouping), evidence=lambda name: evidence), grouping)
    tasks = [replace(context.task, cell=cell) for cell in (attributes, grouping)]
    return results_of(clean, (tasks[0], evidence), (tasks[1], grouped))


def right(batch: Batch, dark: float, other: float) -> Array:
    share = np.where(batch.labels.numpy() == DARK, dark, other)
    return (np.random.default_rng(6).random(COUNT) < share).astype(float)


def test_a_darkened_class_is_found_described_by_brightness_and_shown(
    cnn_model: ModelUnderTest, darkened: Batch
) -> None:
    results = described(cnn_model, darkened, right(darkened, 0.55, 0.95))
    found = finding_of(results, "weak-slices-clean")
    assert found.verdict == "warn" and "brightness" in found.title and "mostly c" in found.title
    assert found.interval is not None and found.interval[1] < -0.2
    first = built_rows("weak_slices", results)[0]
    assert first.weak and first.p_value < 0.01 and len(first.pictures) == 6
    assert "亮度" in load_locale("zh").note(first.slice)


def test_a_class_that_is_surely_missed_is_named_and_one_that_may_not_be_is_not(
    cnn_model: ModelUnderTest, darkened: Batch
) -> None:
    found = finding_of(described(cnn_model, darkened, right(darkened, 0.15, 0.95)), "missed-class")
    of_class = darkened.labels.numpy() == DARK
    share = right(darkened, 0.15, 0.95)[of_class].mean()
    assert found.verdict == "warn" and found.estimate == pytest.approx(share) and found.n == of_class.sum()
    assert found.interval is not None and found.interval[1] < 0.5
    name = cnn_model.classes[DARK]
    assert f"images of {name}" in found.title and f"{name} ({round(share * found.n)} of {found.n} found)" in (
        found.explanation
    )
    for at_least in (0.5, 0.95):
        results = described(cnn_model, darkened, right(darkened, at_least, 0.95))
        assert all(f.check != "missed-class" for f in run_checks(results, load_config()))


def test_answers_that_are_wrong_anywhere_find_no_slice(cnn_model: ModelUnderTest, darkened: Batch) -> None:
    found = finding_of(described(cnn_model, darkened, right(darkened, 0.9, 0.9)), "weak-slices-clean")
    assert found.verdict == "pass" and found.n == COUNT


def test_too_few_images_are_told_and_decide_nothing(cnn_model: ModelUnderTest, darkened: Batch) -> None:
    few = darkened.select(torch.arange(100))
    assert finding_of(described(cnn_model, few, np.ones(100)), "weak-slices-clean").verdict == "informative"


def test_attacked_images_are_searched_by_the_evidence_that_is_there(cnn_model: ModelUnderTest, darkened: Batch) -> None:
    clean = described(cnn_model, darkened, np.ones(COUNT))
    robust = right(darkened, 0.1, 0.8)[:600]
    threat = {"norm": "linf", "eps": 0.1}
    attacked = entry("robustness", "standard", {"robust": robust}, method="quick", threat=threat)
    entries = [(task, clean.evidence[task.cell.key]) for task in clean.plan.tasks]
    found = finding_of_quietly(results_of(*entries, attacked), "weak-slices-robust")
    assert found["verdict"] == "warn" and found["values"]["n"] == 600 and "brightness" in found["title"]
    rows = built_rows("groups", results_of(*entries, attacked))
    assert {row.outcome for row in rows} == {"clean", "robust"}
    (by_class,) = [row for row in rows if row.outcome == "robust"]
    assert by_class.group_max - by_class.group_min == pytest.approx(by_class.difference.estimate)


@pytest.mark.parametrize("steps_done", [1, 2])
def test_robust_accuracy_by_group_has_the_intervals_of_a_study_that_may_stop_early(
    cnn_model: ModelUnderTest, darkened: Batch, steps_done: int
) -> None:
    robust = right(darkened, 0.1, 0.8)
    clean = described(cnn_model, darkened, np.ones(COUNT))
    threat = {"norm": "linf", "eps": 0.1}
    steps = [
        entry("robustness", "standard", {"robust": robust[at : at + 200]}, start=at, method="quick", threat=threat)
        for at in (0, 200)
    ]
    whole = results_of(*((task, clean.evidence[task.cell.key]) for task in clean.plan.tasks), *steps)
    missing = {task.cell.key for task, _ in steps[steps_done:]}
    results = replace(
        whole,
        plan=replace(whole.plan, stop="decides"),
        evidence={key: evidence for key, evidence in whole.evidence.items() if key not in missing},
    )
    attacked = [result for result in results.entries("robustness") if result.task.cell.key not in missing]
    taken = robust[: 200 * steps_done]
    headline = share_of_entries(results, attacked, taken)
    assert headline.method == "confidence sequence 95%"
    (row,) = [row for row in built_rows("groups", results) if row.outcome == "robust" and row.column != "site"]
    assert (row.overall.low, row.overall.high, row.overall.n) == (headline.low, headline.high, headline.n)
    labels = darkened.labels.numpy()[: len(taken)]
    for number, group in enumerate(row.by_group):
        expected = share_of_entries(results, attacked, taken[labels == number])
        assert (group.share.low, group.share.high) == (expected.low, expected.high)
        assert group.share.method == "confidence sequence 95%"
    (clean_row,) = [row for row in built_rows("groups", results) if row.outcome == "clean"]
    assert clean_row.overall.method == "Wilson 95%"


def finding_of_quietly(results: RunResults, check: str) -> dict[str, Any]:
    """A check's own finding, where the made-up evidence is not enough for the other checks of its study."""
    from audit.core.registry import find
    from audit.results.run_checks import to_finding

    method = find("check", check)
    result = method.function(results, "standard", load_config())
    return to_finding(method, "standard", result).model_dump()


def test_groups_of_a_column_that_differ_fail(cnn_model: ModelUnderTest, darkened: Batch) -> None:
    site = np.where(np.arange(COUNT) % 5 == 0, "north", "south")
    correct = (np.random.default_rng(4).random(COUNT) < np.where(site == "north", 0.5, 0.95)).astype(float)
    age = np.random.default_rng(5).normal(50, 10, COUNT)
    results = described(cnn_model, darkened, correct, {"site": site, "age": age})
    gaps = {f.values["column"]: f for f in run_checks(results, load_config()) if f.check == "group-gap"}
    assert gaps["site"].verdict == "fail" and "north" in gaps["site"].title
    assert gaps["age"].verdict == "inconclusive" and gaps["age"].values["groups"] == 5
    worst = finding_of(results, "weak-slices-clean")
    assert worst.verdict == "warn" and "site: north" in worst.title


def test_they_are_found_from_python_too(cnn_model: ModelUnderTest, darkened: Batch) -> None:
    import audit
    from audit.core.errors import DataError

    answers = right(darkened, 0.3, 0.95) > 0
    found = audit.find_weak_slices(cnn_model, darkened.images, darkened.labels, outcomes=answers)
    first = found.slices[0]
    assert first.weak and "brightness" in first.description and found.passes.forwards == COUNT
    assert (darkened.labels[first.members] == DARK).float().mean() > 0.9
    shuffled = audit.find_weak_slices(
        cnn_model, darkened.images, darkened.labels, outcomes=np.roll(answers, 1)[::-1], columns={"site": ["a"] * COUNT}
    )
    assert len(shuffled.slices) <= 8
    with pytest.raises(DataError, match="one value for each of 1000 images"):
        audit.find_weak_slices(cnn_model, darkened.images, darkened.labels, columns={"site": ["a", "b"]})


def test_features_are_what_the_last_layer_is_given(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    with cnn_model.count() as counter:
        features, logits = features_and_logits(cnn_model, cnn_batch.images)
    assert head_layer(cnn_model) == "6" and counter.passes.forwards == len(cnn_batch)
    with torch.no_grad():
        slow = cnn_model.net[:6](cnn_batch.images)  # type: ignore[index]
    torch.testing.assert_close(features, slow)
    torch.testing.assert_close(logits, cnn_model.logits(cnn_batch.images))
    torch.testing.assert_close(penultimate_features(cnn_model, cnn_batch.images[:3]), slow[:3])
    assert not cnn_model.net[6]._forward_pre_hooks  # type: ignore[index]


def test_maps_and_tokens_are_averaged_and_a_layer_before_the_last_is_found() -> None:
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends_in_map = torch.nn.Sequential(
            torch.nn.Conv2d(1, 5, 3), torch.nn.Conv2d(5, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )
        shuffled = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(36, 4), torch.nn.Unflatten(1, (2, 2)), Summed()
        )
    given = ModelUnderTest(ends_in_map, classes=("a", "b"), input_shape=(1, 6, 6), device="cpu")
    with torch.no_grad():
        expected = ends_in_map[0](images).mean((2, 3))
    torch.testing.assert_close(penultimate_features(given, images), expected)
    other = ModelUnderTest(shuffled, classes=("a", "b"), input_shape=(1, 6, 6), device="cpu")
    assert head_layer(other) == "1"  # what follows it adds its outputs up
    torch.testing.assert_close(features_and_logits(other, images).features, images.flatten(1))


class Summed(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(2)


def test_attributes_are_those_of_images_drawn_for_them() -> None:
    images = torch.zeros(4, 3, 20, 20)
    images[1] = 0.5
    images[2, 0, 2:6, 10:18] = 1.0  # a red object, high and to the right
    images[3] = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(3))
    names = attribute_names(3)
    said = {name: image_attributes(images)[:, i] for i, name in enumerate(names)}
    assert said["brightness"].tolist()[:2] == pytest.approx([0, 0.5])
    assert said["object_size"][2] == pytest.approx(32 / 400)
    assert said["object_row"][2] == pytest.approx(0.2) and said["object_column"][2] == pytest.approx(0.7)
    assert said["object_row"][0] == 0.5
    assert said["saturation"][2] == pytest.approx(32 / 400) and said["warmth"][2] == pytest.approx(32 / 400)
    assert said["sharpness"][3] > said["sharpness"][1] and said["contrast"][1] == 0
    masks = torch.zeros(4, 20, 20, dtype=torch.bool)
    masks[:, 10:, :10] = True
    masked = dict(zip(names, image_attributes(images, masks).T, strict=True))
    assert masked["object_size"].tolist() == pytest.approx([0.25] * 4) and masked["object_row"][0] == pytest.approx(
        0.75
    )


def test_whoever_attacked_too_few_images_is_told_of_the_rule_that_stopped(
    cnn_model: ModelUnderTest, darkened: Batch
) -> None:
    """A run under `--stop decides` ends at 64 of 1,000 images, and a larger `robustness.examples` changes nothing."""
    clean = described(cnn_model, darkened, np.ones(COUNT))
    threat = {"norm": "linf", "eps": 0.1}
    attacked = entry("robustness", "standard", {"robust": np.ones(64)}, method="quick", threat=threat)
    entries = [(task, clean.evidence[task.cell.key]) for task in clean.plan.tasks]
    found = finding_of_quietly(results_of(*entries, attacked), "weak-slices-robust")
    assert found["verdict"] == "informative" and "`--stop all` attacks as many" in found["advice"]
