from typing import get_args

import pytest
from test_planning import SUBJECT

from audit.config import Section, load_config
from audit.core.errors import UsageError
from audit.core.registry import methods
from audit.planning.build import build_plan
from audit.planning.plan import MODEL_STUDIES, AuditPlan
from audit.planning.sections import STUDIES

EVERYTHING = {
    "robustness": {"control_examples": 8, "certified_examples": 8, "backdoor_examples": 8},
    "explanations": {"attribution-quality": True, "drift": True, "shortcut_examples": 8},
}


def plan(*only: str) -> AuditPlan:
    return build_plan(load_config(overrides={**EVERYTHING, "only": only}), SUBJECT)


def keys(of: AuditPlan) -> set[str]:
    return {task.cell.key for task in of.tasks}


@pytest.mark.parametrize("section", get_args(Section))
def test_a_section_alone_has_the_cells_of_the_whole_run_and_what_they_need(section: Section) -> None:
    whole, part = plan(), plan(section)
    assert keys(part) < keys(whole)
    shown = {t.cell.key for t in whole.tasks if t.cell.study in STUDIES[section]}
    assert shown and shown <= keys(part)
    for task in part.tasks:
        assert set(task.cell.inputs.values()) <= keys(part), task.label
        assert not task.cell.model.startswith("cell:") or task.cell.model.removeprefix("cell:") in keys(part)


def test_accuracy_alone_leaves_the_attacks_out() -> None:
    assert {task.cell.study for task in plan("accuracy").tasks} == {"training", "accuracy"}
    assert {task.role for task in plan("accuracy").tasks} == {"standard", "hardened"}


def test_all_sections_together_are_the_whole_run() -> None:
    assert keys(plan(*get_args(Section))) == keys(plan())


def test_every_study_belongs_to_one_section() -> None:
    named = [study for studies in STUDIES.values() for study in studies]
    assert len(named) == len(set(named))
    assert {method.name for method in methods("study")} == {*named, *MODEL_STUDIES}


def test_an_unknown_section_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"only.*'accuracy', 'robustness'"):
        plan("attacks")
