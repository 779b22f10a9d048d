"""The cells of slices and refusal: what they read, what is in their keys, and when there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from audit.config import load_config
from audit.core.topic import topic_of
from audit.planning.build import build_plan
from audit.planning.plan import CALIBRATION_SPLIT, Task
from audit.planning.run_identity import RunIdentity

SUBJECT = RunIdentity(("a", "b"), (1, 28, 28), "test", 3000, "cnn-28", "train", 4000, loaded="file:abc")


def cells(study: str, subject: RunIdentity = SUBJECT, **overrides: Any) -> list[Task]:
    config = load_config(overrides=overrides | {"hardening": {"enabled": False}})
    return [task for task in build_plan(config, subject).tasks if task.cell.study == study]


def test_slices_read_the_accuracy_of_their_images_and_are_grouped_over_all_of_them() -> None:
    one, grouped = cells("slices", replace(SUBJECT, test_examples=1500))
    assert list(one.cell.inputs) == ["accuracy 0"] and one.wave > 0
    assert grouped.cell.inputs == {"part 0": one.cell.key} and len(grouped.examples) == 1500
    parts = cells("slices", replace(SUBJECT, test_examples=6000), slices={"examples": 6000})
    assert [len(task.examples) for task in parts] == [2000, 2000, 2000, 6000]
    assert list(parts[2].cell.inputs) == ["accuracy 0", "accuracy 5000"]


def test_the_columns_of_the_data_are_in_the_key_of_the_cells_that_read_them_alone() -> None:
    plain, told = (cells("slices", replace(SUBJECT, cohorts=said)) for said in ("", "abc"))
    assert plain[0].cell.key != told[0].cell.key and "columns" not in plain[0].cell.settings
    before, after = (build_plan(load_config(), replace(SUBJECT, cohorts=said)).tasks for said in ("", "abc"))
    changed = {one.cell.study for one, other in zip(before, after, strict=True) if one.cell.key != other.cell.key}
    assert changed == {"slices"}


def test_refusal_reads_the_first_cell_of_attacks_and_the_training_images_in_order() -> None:
    tasks = cells("refusal")
    by_method = {task.cell.method: task for task in tasks}
    assert set(by_method) == {"reference", "clean", "corrupted", "foreign", "attacked"}
    assert by_method["reference"].examples.split == CALIBRATION_SPLIT
    assert set(by_method["attacked"].cell.inputs) == {"reference", "robustness"}
    assert len([task for task in tasks if task.cell.method == "corrupted"]) == 4
    kinds = {task.cell.settings["kind"] for task in tasks if task.cell.method == "foreign"}
    assert kinds == {"noise", "textures", "digits"}
    assert {task.cell.settings["kind"] for task in cells("refusal", data={"source": "digits"}) if task.cell.settings
            .get("kind")} == {"noise", "textures"}  # fmt: skip


def test_foreign_images_of_the_user_are_known_by_their_fingerprint_and_not_by_their_place() -> None:
    subject = replace(SUBJECT, foreign="f00d")
    first, second = (
        [t for t in cells("refusal", subject, refusal={"foreign": place}) if t.cell.settings.get("kind") == "own"]
        for place in ("here", "there")
    )
    assert first[0].cell.key == second[0].cell.key and first[0].cell.settings["source"] == "f00d"
    assert (first[0].context["source"], second[0].context["source"]) == ("here", "there")


def test_without_training_images_what_is_usual_is_read_from_test_images_that_are_not_judged() -> None:
    reference = cells("refusal", replace(SUBJECT, train="", train_examples=0))[0].examples
    assert (reference.split, reference.start, reference.stop) == ("test", 500, 1500)
    assert cells("refusal", replace(SUBJECT, train="", train_examples=0, test_examples=400)) == []


def test_nothing_is_planned_without_labels_or_images() -> None:
    unlabelled = replace(SUBJECT, labelled=False)
    assert cells("slices", unlabelled) == cells("refusal", unlabelled) == []
    assert cells("slices", slices={"examples": 0}) == cells("refusal", refusal={"examples": 0}) == []


def test_every_forward_is_foreseen() -> None:
    topic = topic_of("refusal")
    assert topic is not None
    most = topic.function("plan", "max_passes")
    assert most is not None
    forwards = {t.cell.method: len(t.examples) * most(t, SUBJECT).forwards for t in cells("refusal")}
    assert forwards == {"reference": 1000, "clean": 500, "corrupted": 600, "foreign": 200, "attacked": 64}
