from dataclasses import replace

import pytest
from test_planning import SUBJECT

from audit.config import load_config
from audit.core.errors import UsageError
from audit.core.registry import methods
from audit.core.topic import measured_sections, sections, topics
from audit.planning.build import build_plan
from audit.planning.plan import MODEL_STUDIES, AuditPlan

EVERYTHING = {
    "attack_controls": {"examples": 8},
    "certification": {"examples": 8},
    "backdoor": {"examples": 8},
    "attribution_quality": {"enabled": True},
    "drift": {"enabled": True},
    "shortcuts": {"examples": 8},
}


def studies_of(section: str) -> set[str]:
    return {study for topic in topics() if topic.section == section for study in topic.studies}


def plan(*only: str) -> AuditPlan:
    return build_plan(load_config(overrides={**EVERYTHING, "only": only}), SUBJECT)


def keys(of: AuditPlan) -> set[str]:
    return {task.cell.key for task in of.tasks}


@pytest.mark.parametrize("section", measured_sections("classification"))
def test_a_section_alone_has_the_cells_of_the_whole_run_and_what_they_need(section: str) -> None:
    whole, part = plan(), plan(section)
    assert keys(part) < keys(whole)
    shown = {t.cell.key for t in whole.tasks if t.cell.study in studies_of(section)}
    assert shown and shown <= keys(part)
    for task in part.tasks:
        assert set(task.cell.inputs.values()) <= keys(part), task.label
        assert not task.cell.model.startswith("cell:") or task.cell.model.removeprefix("cell:") in keys(part)


def test_explanations_alone_bring_the_checks_of_the_model_they_rest_on() -> None:
    checked = [task.role for task in plan("explanations").tasks if task.cell.study == "model-sanity"]
    assert checked == ["standard", "hardened"]
    assert "model-sanity" not in {task.cell.study for task in plan("corruptions").tasks}


def test_accuracy_alone_leaves_the_attacks_out() -> None:
    assert {task.cell.study for task in plan("accuracy").tasks} == {"training", "accuracy"}
    assert {task.role for task in plan("accuracy").tasks} == {"standard", "hardened"}


def test_all_sections_together_are_the_whole_run() -> None:
    assert keys(plan(*measured_sections("classification"))) == keys(plan())


def test_every_study_belongs_to_one_section() -> None:
    named = [study for section in measured_sections() for study in studies_of(section)]
    assert len(named) == len(set(named))
    assert {method.name for method in methods("study")} == {*named, *MODEL_STUDIES}


def test_sections_that_can_be_asked_for_are_those_whose_topics_plan_something() -> None:
    names = ("data_health", "accuracy", "robustness", "corruptions", "slices", "refusal", "explanations")
    assert measured_sections("classification") == names
    assert set(sections()) - set(measured_sections()) == {"compression", "comparison", "detection_comparison"}


def test_a_section_of_another_task_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="'detection_accuracy' is not one of classification"):
        plan("detection_accuracy")


def test_a_detector_has_the_topics_of_detectors_alone() -> None:
    whole = build_plan(load_config(), replace(SUBJECT, task="detection", loaded="file:net"))
    studies = {study for topic in topics() if topic.task == "detection" for study in topic.studies}
    assert "detection-accuracy" in {task.cell.study for task in whole.tasks} <= {*studies, *MODEL_STUDIES}


def test_an_unknown_section_is_a_sentence() -> None:
    with pytest.raises(
        UsageError, match=r"only.*Known: accuracy, corruptions, data_health, .*explanations, .*robustness"
    ):
        plan("attacks")
