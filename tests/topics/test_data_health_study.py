"""Planted faults come out of the study by name, with pictures, checks and the table; clean data is silent."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bare_context import bare_context
from made_entries import entry, results_of
from made_run import finding_of
from numpy.typing import NDArray
from planted import COPIES, garments

from audit.core.cell import Cell
from audit.core.errors import AuditError, Interrupted
from audit.core.evidence import Evidence
from audit.data.arrays import array_split
from audit.data.dataset import Dataset
from audit.data.sampling import balanced_order
from audit.document.model import Proportion
from audit.execution.context import Context
from audit.planning.plan import Slice, Task
from audit.results.run_results import RunResults
from audit.topics.data_health.facts import HealthFacts, LabelFacts
from audit.topics.data_health.issues import issues_as_csv
from audit.topics.data_health.study import data_health, label_errors

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
CLASSES = ("bar", "cross", "disc", "ring")
SETTINGS = {"labelled": True, "pictures": True}


def drawn(count: int, seed: int) -> Part:
    """Smooth random images, brighter in a corner of their class, uint8 (N, 1, 20, 20)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    coarse = draw.uniform(0, 90, (count, 5, 5))
    images = np.kron(coarse, np.ones((4, 4)))
    for corner in range(4):
        rows, columns = (slice(0, 10), slice(10, 20))[corner // 2], (slice(0, 10), slice(10, 20))[corner % 2]
        images[labels == corner, rows, columns] += 120
    return np.clip(images + draw.normal(0, 4, images.shape), 0, 255).astype(np.uint8)[:, None], labels.astype(np.int64)


def dataset(train: Part | None, test: Part) -> Dataset:
    parts = {
        name: array_split(*part, name=name, classes=4, source="drawn")
        for name, part in (("train", train), ("test", test))
        if part is not None
    }
    return Dataset("drawn", CLASSES, (1, 20, 20), parts["test"], parts.get("train"))


def context_of(data: Dataset | None, cell: Cell, **changes: Any) -> Context:
    no_model: Any = None
    nothing = dataset(None, drawn(8, 0)).test.batch(slice(0, 0))
    return replace(bare_context(no_model, nothing, cell), dataset=data, **changes)


def survey(data: Dataset, **settings: Any) -> tuple[Evidence, HealthFacts]:
    cell = Cell("data-health", "survey", settings=SETTINGS | settings, model="standard", seed=0)
    evidence = data_health(context_of(data, cell), cell)
    return evidence, evidence.facts_as(HealthFacts)


def results_with(evidence: Evidence, *more: tuple[Task, Evidence]) -> RunResults:
    return results_of((Task(evidence.cell, "standard", Slice("test", 0, 0), 0), evidence), *more)


def planted() -> Dataset:
    """Four leaks, one turned and one with another label; a blank test image; a copy within the training part."""
    (train, train_labels), (test, test_labels) = drawn(600, 3), drawn(200, 2)
    test[:4] = train[:4]
    test[1] = test[1, :, :, ::-1]
    test_labels[2] = 0
    test[9] = 77
    train[50] = train[40]
    train_labels[50] = train_labels[40]
    return dataset((train, train_labels), (test, test_labels))


def test_planted_faults_come_out_by_name() -> None:
    data = planted()
    evidence, facts = survey(data)
    named = {(issue.issue, issue.image, issue.partner) for issue in facts.issues}
    assert named == {
        *(("leak", f"test/{i:05d}", f"train/{i:05d}") for i in range(4)),
        ("conflict", "test/00002", "train/00002"),
        ("blank", "test/00009", ""),
        ("duplicate", "train/00050", "train/00040"),
    }
    assert (facts.leaked, [part.blank for part in facts.parts]) == (4, [0, 1])
    order = balanced_order(data.test, 0)
    assert sorted(data.test.ids[order[at]] for at in evidence.arrays["leaked"]) == [f"test/{i:05d}" for i in range(4)]


def test_the_pictures_show_the_copy_as_the_image_is_turned() -> None:
    evidence, facts = survey(planted())
    shown = dict(zip(evidence.arrays["shown"].tolist(), evidence.arrays["pictures"], strict=True))
    for number, issue in enumerate(facts.issues):
        image, copy, difference = shown[number].astype(int)
        if issue.partner:
            assert np.abs(image - copy).max() == 0
            assert np.abs(difference - 127).max() == 0
        else:
            assert not copy.any()
    assert "pictures" not in survey(planted(), pictures=False)[0].arrays


def test_clean_data_is_silent() -> None:
    evidence, facts = survey(dataset(drawn(600, 3), drawn(200, 2)))
    assert not facts.issues and not facts.kinds and not facts.leaked
    results = results_with(evidence)
    for check in ("test-set-leak", "label-errors", "blank-images", "conflicting-labels", "file-kinds"):
        assert finding_of(results, check).verdict == "pass", check
    assert finding_of(results, "train-test-shift").verdict == "pass"
    balance = finding_of(results, "class-balance")
    assert (balance.verdict, balance.advice) == ("pass", "")
    assert balance.explanation == "The smallest class of the training part has 150 images, the largest 150."


def test_three_percent_of_test_images_copied_in_four_ways_are_all_named_as_leaks_and_no_other() -> None:
    images, labels = garments()
    test, train = images[2000:].copy(), images[:2000]
    ways = [COPIES[kind] for kind in ("exact", "rescaled", "jpeg", "mirrored")]
    planted = np.random.default_rng(2).permutation(1000)[:30].tolist()
    for number, row in enumerate(planted):
        test[row] = ways[number % 4](train[3 * number])
    parts = {
        name: array_split(part[:, None], known, name=name, classes=10, source="garments")
        for name, part, known in (("train", train, labels[:2000]), ("test", test, labels[2000:]))
    }
    data = Dataset("garments", tuple("abcdefghij"), (1, 28, 28), parts["test"], parts["train"])
    _, facts = survey(data)
    leaks = {(issue.image, issue.partner) for issue in facts.issues if issue.issue == "leak"}
    assert leaks == {(f"test/{row:05d}", f"train/{3 * number:05d}") for number, row in enumerate(planted)}
    assert facts.leaked == 30


def test_a_leak_fails_and_says_what_the_accuracy_is_without_it() -> None:
    evidence, _ = survey(planted())
    leaked = np.isin(np.arange(200), evidence.arrays["leaked"])
    correct = np.where(leaked, 1.0, np.arange(200) % 2)
    accuracy = entry("accuracy", "standard", {"correct": correct})
    finding = finding_of(results_with(evidence, accuracy), "test-set-leak")
    assert finding.verdict == "fail"
    assert finding.title == "4 of 200 test images are copies of training images (2.00%)"
    assert finding.interval is not None and finding.interval == pytest.approx((0.005477, 0.050414), abs=1e-4)
    without = correct[~leaked].mean()
    assert f"Without them clean accuracy is {without:.1%} instead of {correct.mean():.1%}" in finding.explanation
    assert finding_of(results_with(evidence), "blank-images").verdict == "fail"
    assert finding_of(results_with(evidence), "conflicting-labels").verdict == "warn"


def test_flipped_training_labels_are_named() -> None:
    train, labels = drawn(800, 1)
    noisy = labels.copy()
    noisy[:80] = (noisy[:80] + 1) % 4
    evidence, facts = survey(dataset((train, noisy), drawn(100, 2)))
    named = [issue for issue in facts.issues if issue.issue == "label"]
    assert len(named) > 50 and {issue.image for issue in named} <= {f"train/{i:05d}" for i in range(80)}
    assert all(issue.partner_label == CLASSES[labels[int(issue.image[-5:])]] for issue in named)
    assert finding_of(results_with(evidence), "label-errors").verdict == "warn"


def judged_by_the_model(count: int, wrong: int, shifted: int = 0) -> tuple[RunResults, LabelFacts]:
    """Labels of `count` images, the first `wrong` mistaken, seen by a model that is sure of the right ones, but for the
    last `shifted` images, where it is sure of the next class."""
    images, labels = drawn(count, 2)
    noisy = labels.copy()
    noisy[:wrong] = (noisy[:wrong] + 1) % 4
    data = dataset(None, (images, noisy))
    order = balanced_order(data.test, 0)
    draw = np.random.default_rng(0)
    margins = draw.uniform(3, 12, (count, 1)) if shifted else 6
    answered = labels.copy()
    answered[count - shifted :] = (answered[count - shifted :] + 1) % 4
    logits = (margins * np.eye(4)[answered] + draw.normal(0, 1, (count, 4))).astype(np.float32)[order]
    parts = {
        f"clean {start}": Evidence(
            Cell("accuracy", "clean"), "measured", arrays={"logits": logits[start : start + 100]}
        )
        for start in range(0, count, 100)
    }
    cell = Cell("label-errors", "noise-channel", settings=SETTINGS, model="standard", inputs=dict.fromkeys(parts, "x"))
    evidence = label_errors(context_of(data, cell, evidence=parts.__getitem__), cell)
    surveyed, _ = survey(data)
    results = results_with(surveyed, (Task(cell, "standard", Slice("test", 0, 0), 0), evidence))
    return results, evidence.facts_as(LabelFacts)


def test_wrong_test_labels_are_named_by_the_model() -> None:
    results, facts = judged_by_the_model(200, 20)
    assert {issue.image for issue in facts.issues} == {f"test/{i:05d}" for i in range(20)}
    finding = finding_of(results, "label-errors")
    assert finding.verdict == "fail" and "About 20 of 200 test labels" in finding.title


@pytest.mark.parametrize(("count", "verdict"), [(12, "inconclusive"), (400, "pass")])
def test_labels_of_few_images_are_not_said_to_hold(count: int, verdict: str) -> None:
    results, _ = judged_by_the_model(count, 0)
    assert finding_of(results, "label-errors").verdict == verdict


def test_an_interval_that_contains_the_limit_tells_nothing() -> None:
    """4 of 100 labels wrong: the estimate is above 3%, the lower bound is not."""
    results, facts = judged_by_the_model(100, 4)
    finding = finding_of(results, "label-errors")
    assert facts.wrong.low < 0.03 < facts.wrong.estimate < facts.wrong.high
    assert finding.verdict == "inconclusive" and finding.interval == (facts.wrong.low, facts.wrong.high)
    assert (
        f"The 95% interval, {facts.wrong.low:.1%} to {facts.wrong.high:.1%}, contains the limit." in finding.explanation
    )
    assert "Look at the images named below" in finding.advice


def test_training_labels_are_judged_by_the_whole_interval_too() -> None:
    wrong = Proportion(estimate=0.039, low=0.012, high=0.068, n=2000, method="profile likelihood 95%")
    assert training_verdict(wrong, 0.8) == "inconclusive"
    assert training_verdict(wrong.model_copy(update={"low": 0.031}), 0.8) == "warn"
    assert training_verdict(wrong.model_copy(update={"high": 0.029}), 0.8) == "pass"
    assert training_verdict(wrong.model_copy(update={"low": 0.031}), 0.49) == "informative"


def training_verdict(wrong: Proportion, agreement: float) -> str:
    evidence, facts = survey(dataset(drawn(100, 3), drawn(20, 2)))
    part = facts.parts[0].model_copy(update={"wrong": wrong, "agreement": agreement})
    changed = facts.model_copy(update={"parts": (part, *facts.parts[1:])})
    return finding_of(results_with(replace(evidence, facts=changed.model_dump())), "label-errors").verdict


def test_a_model_that_is_mostly_wrong_convicts_no_label() -> None:
    """It is as sure as in the other tests, of a class beside the right one: no label is wrong, the model is."""
    results, facts = judged_by_the_model(1000, 0, shifted=550)
    assert facts.agreement == pytest.approx(0.45, abs=0.005)
    assert 0.03 < facts.wrong.low < facts.wrong.high < 0.59, "the channel alone takes the model's word"
    assert not facts.issues
    finding = finding_of(results, "label-errors")
    assert (finding.verdict, finding.interval) == ("inconclusive", None)
    assert f"agree with {facts.agreement:.1%} of the labels" in finding.explanation
    assert "why the model is wrong so often" in finding.advice


def test_a_model_that_is_mostly_wrong_convicts_no_label_in_a_run_that_did_not_store_its_agreement() -> None:
    results, facts = judged_by_the_model(200, 0, shifted=200)
    assert facts.wrong.high > 0.599
    stored = {
        key: replace(evidence, facts={k: v for k, v in evidence.facts.items() if k != "agreement"})
        for key, evidence in results.evidence.items()
    }
    finding = finding_of(replace(results, evidence=stored), "label-errors")
    assert finding.verdict == "inconclusive" and "the largest share it can express" in finding.explanation


def test_labels_of_which_two_fifths_are_wrong_are_convicted_by_a_good_model() -> None:
    results, facts = judged_by_the_model(400, 160)
    assert facts.wrong.low <= 0.4 <= facts.wrong.high
    assert facts.agreement is not None and 0.5 < facts.agreement < 0.65
    assert finding_of(results, "label-errors").verdict == "fail"


def test_a_class_of_another_size_warns_and_a_darker_test_part_too() -> None:
    (train, labels), (test, test_labels) = drawn(400, 1), drawn(200, 2)
    data = dataset((train, labels), ((0.7 * test).astype(np.uint8), test_labels))
    assert data.train is not None
    sizes = np.where((labels == 3)[:, None], (64, 64), (20, 20)).astype(np.int32)
    evidence, _ = survey(replace(data, train=replace(data.train, sizes=sizes)))
    finding = finding_of(results_with(evidence), "file-kinds")
    assert finding.verdict == "warn" and "The size of an image tells its class" in finding.title
    assert "64x64 goes with ring" in finding.explanation
    assert finding_of(results_with(evidence), "train-test-shift").verdict == "warn"


@pytest.mark.parametrize(("kept", "verdict"), [(101, "pass"), (100, "informative"), (1, "informative")])
def test_classes_are_called_imbalanced_from_one_and_a_half_times_the_images(kept: int, verdict: str) -> None:
    train, labels = drawn(600, 1)
    few = np.flatnonzero(labels == 1)[kept:]
    evidence, facts = survey(dataset((np.delete(train, few, 0), np.delete(labels, few)), drawn(100, 2)))
    assert sorted(facts.parts[0].counts) == [kept, 150, 150, 150]
    finding = finding_of(results_with(evidence), "class-balance")
    assert finding.verdict == verdict
    if verdict == "informative":
        assert finding.title.endswith(f"has {150 / kept:.1f} times the images of the smallest (training part)")
        most, least = re.findall(r"(\d+) of (\w+)", finding.explanation.replace("images of", "of"))[:2]
        assert most[0] == "150" and least == (str(kept), "cross") and most[1] != "cross"
        assert finding.advice == "Add images of cross, or read its figures by their intervals."


def test_a_class_without_images_warns() -> None:
    train, labels = drawn(400, 1)
    kept = labels != 1
    evidence, _ = survey(dataset((train[kept], labels[kept]), drawn(100, 2)))
    finding = finding_of(results_with(evidence), "class-balance")
    assert (finding.verdict, finding.title) == ("warn", "A class has no image in the training part: cross")


def test_the_table_names_every_issue_and_holds_no_formula() -> None:
    data = planted()
    names = ("=cmd()", *data.test.ids[1:])
    evidence, facts = survey(replace(data, test=replace(data.test, ids=names)))
    table = issues_as_csv(results_with(evidence))
    assert table is not None
    rows = list(csv.DictReader(io.StringIO(table)))
    assert Counter(row["issue"] for row in rows) == Counter(issue.issue for issue in facts.issues)
    assert list(rows[0])[:4] == ["image", "split", "label", "issue"]
    assert {row["image"] for row in rows if row["partner"] == "train/00000"} == {"'=cmd()"}
    assert all(row["suggestion"] for row in rows)
    assert issues_as_csv(results_of()) is None


def test_data_without_labels_is_searched_for_copies_alone() -> None:
    _, facts = survey(planted(), labelled=False)
    assert {issue.issue for issue in facts.issues} == {"leak", "blank", "duplicate"}
    assert facts.parts[0].wrong is None and not facts.parts[0].counts


def test_it_stops_when_asked_and_says_what_it_lacks() -> None:
    cell = Cell("data-health", "survey", settings=SETTINGS)
    with pytest.raises(Interrupted, match="the same command resumes"):
        data_health(context_of(planted(), cell, stopping=lambda: True), cell)
    with pytest.raises(AuditError, match="no data set"):
        data_health(context_of(None, cell), cell)
