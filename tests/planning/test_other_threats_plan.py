"""Which presets try other threats, and what their cells know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.config import load_config
from audit.planning.build import build_plan
from audit.planning.plan import AuditPlan, Task
from audit.planning.run_identity import RunIdentity

SUBJECT = RunIdentity(
    classes=tuple("abcdefghijkl"),
    shape=(3, 64, 32),
    test="test-pixels",
    test_examples=900,
    architecture="cnn-32",
    train="train-pixels",
    train_examples=10_000,
)


def plan(preset: str = "standard", subject: RunIdentity = SUBJECT, **overrides: object) -> AuditPlan:
    return build_plan(load_config(preset=preset, overrides=overrides), subject)


def of(study: str, plan: AuditPlan, role: str = "standard") -> list[Task]:
    return [task for task in plan.tasks if task.cell.study == study and task.role == role]


@pytest.mark.parametrize(("preset", "there"), [("quick", False), ("standard", True), ("full", True)])
def test_presets_that_try_them(preset: str, there: bool) -> None:
    for role in ("standard", "hardened"):
        found = [task.cell.method for task in of("other-threats", plan(preset), role)]
        assert found == (["spatial", "universal", "patch", "patch", "transfer"] if there else [])
        assert len(of("surrogate", plan(preset), role)) == there


def test_the_surrogate_is_taught_on_training_images_and_never_on_all_of_them() -> None:
    (task,) = of("surrogate", plan())
    assert (task.examples.split, len(task.examples)) == ("train", 10_000)
    assert task.cell.settings == {"every": 3, "epochs": 8, "elsewhere": True}
    (transfer,) = [t for t in of("other-threats", plan()) if t.cell.method == "transfer"]
    assert transfer.cell.inputs == {"surrogate": task.cell.key} and transfer.wave > task.wave


def test_without_training_images_it_is_taught_on_half_of_those_not_attacked() -> None:
    given = replace(SUBJECT, train="", train_examples=0, loaded="file:abc")
    bare = plan(subject=given, hardening={"enabled": False})
    (task,) = of("surrogate", bare)
    (transfer,) = [t for t in of("other-threats", bare) if t.cell.method == "transfer"]
    assert task.examples == transfer.examples and not task.cell.settings["elsewhere"]


def test_only_a_battery_that_transfers_waits_for_the_surrogate() -> None:
    assert all(not task.cell.inputs for task in of("robustness", plan("standard")))
    assert all("surrogate" in task.cell.inputs for task in of("robustness", plan("full")))
    alone = plan("quick", robustness={"battery": "full"})
    assert len(of("surrogate", alone)) == 1 and not of("other-threats", alone)


def test_limits_follow_the_image_and_change_the_keys() -> None:
    settings = of("other-threats", plan())[0].cell.settings
    assert (settings["rotation"], settings["translation"]) == (30.0, 3)
    wider = plan(other_threats={"rotation": 45.0, "patch_area": 0.1})
    changed = {t.cell.key for t in of("other-threats", plan())} - {t.cell.key for t in of("other-threats", wider)}
    assert len(changed) == 3
