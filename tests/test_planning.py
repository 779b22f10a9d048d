from dataclasses import replace

import pytest

from audit.config import load_config
from audit.errors import UsageError
from audit.plan import AuditPlan
from audit.planning import Subject, make_plan
from audit.planning.explaining import BACKGROUND
from audit.planning.subject import curve_eps, headline_eps

SUBJECT = Subject(
    classes=("a", "b"),
    shape=(1, 28, 28),
    test="test-pixels",
    test_examples=1200,
    architecture="cnn-28",
    train="train-pixels",
    train_examples=300,
)


def plan(subject: Subject = SUBJECT, **overrides: object) -> AuditPlan:
    return make_plan(load_config(overrides=overrides), subject)


def studies(of: AuditPlan, role: str) -> set[str]:
    return {task.cell.study for task in of.tasks if task.role == role}


def test_every_input_comes_in_an_earlier_wave_and_no_cell_twice() -> None:
    tasks = plan(explanations={"drift": True, "judging": True, "shortcut_examples": 500}).tasks
    wave = {task.cell.key: task.wave for task in tasks}
    assert len(wave) == len(tasks)
    for task in tasks:
        needed = [*task.cell.inputs.values()]
        if task.cell.model.startswith("cell:"):
            needed.append(task.cell.model.removeprefix("cell:"))
        assert all(wave[key] < task.wave for key in needed), task.label


def test_both_models_are_audited_alike() -> None:
    whole = plan()
    assert studies(whole, "standard") - {"calibration-of-the-tool"} == studies(whole, "hardened")
    assert {"accuracy", "sanity", "robustness", "corruption", "explanation", "faithfulness"} < studies(
        whole, "hardened"
    )


def test_methods_that_average_get_a_background_unless_a_baseline_is_asked_for() -> None:
    asked = {"methods": ["deep-lift", "deep-shap", "expected-gradients"], "judging": True, "drift": True}
    for baseline, given in ((None, BACKGROUND), ("mean", None)):
        tasks = plan(explanations=asked | {"baseline": baseline}).tasks
        for study in ("explanation", "judging"):
            found = {t.cell.method: t.cell.settings.get("references") for t in tasks if t.cell.study == study}
            assert found == {"deep-lift": None, "deep-shap": given, "expected-gradients": given}


def test_chunks_cover_the_examples_once_and_keep_the_images_that_are_explained() -> None:
    parts = [task for task in plan(robustness={"examples": 1100}).tasks if task.cell.study == "robustness"]
    ours = [task for task in parts if task.role == "standard"]
    assert [(t.examples.start, t.examples.stop) for t in ours] == [(0, 500), (500, 1000), (1000, 1100)]
    assert [t.cell.settings["kept"] for t in ours] == [24, 0, 0]


def test_a_loaded_model_is_not_trained_but_starts_the_hardening() -> None:
    given = plan(replace(SUBJECT, loaded="file:abc"))
    trained = [task for task in given.tasks if task.cell.study == "training"]
    assert [(task.role, task.cell.model) for task in trained] == [("hardened", "file:abc")]


def test_hardening_from_scratch_owes_nothing_to_the_audited_model() -> None:
    fresh = plan(hardening={"from_scratch": True})
    (hardening,) = [t for t in fresh.tasks if t.cell.study == "training" and t.role == "hardened"]
    assert hardening.cell.inputs == {} and hardening.cell.model == ""


def test_the_train_scope_trains_and_measures_and_no_more() -> None:
    small = make_plan(load_config(), SUBJECT, "train")
    assert [task.cell.study for task in small.tasks] == ["training", "accuracy"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"robustness": {"battery": "standard"}},
        {"robustness": {"eps": 0.2}},
        {"training": {"epochs": 3}},
    ],
)
def test_what_changes_an_answer_changes_its_key(change: dict[str, object]) -> None:
    def robust(of: AuditPlan) -> set[str]:
        return {task.cell.key for task in of.tasks if task.cell.study == "robustness" and task.role == "standard"}

    assert robust(plan(**change)).isdisjoint(robust(plan()))


def test_device_and_report_choices_change_no_key() -> None:
    keys = [task.cell.key for task in plan().tasks]
    assert [task.cell.key for task in plan(device="cpu", report={"gallery": 2}).tasks] == keys


def test_the_curve_rises_through_the_headline() -> None:
    colour = replace(SUBJECT, shape=(3, 32, 32))
    config = load_config()
    assert headline_eps(config, SUBJECT) == 0.1
    assert headline_eps(config, colour) == 8 / 255
    for subject in (SUBJECT, colour):
        curve = curve_eps(config, subject)
        assert list(curve) == sorted(set(curve)) and headline_eps(config, subject) in curve


def test_everything_there_is_by_the_word_all() -> None:
    every = plan(corruptions={"names": ["all"], "severities": [3]})
    assert len({task.cell.method for task in every.tasks if task.cell.study == "corruption"}) == 19


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robustness": {"curve": [0.1, 2.0]}}, "8/255"),
        ({"explanations": {"settings": {"lime": {"sample": 3}}}}, "samples"),
        ({"hardening": {"recipe": "none"}}, "pgd"),
    ],
)
def test_what_cannot_be_planned_is_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(**change)
