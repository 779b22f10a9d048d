"""`chunk`: how many images a cell of attacks holds, and that cells of any size join to the same answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import built_rows

from audit.config import load_config
from audit.core.evidence import Finding
from audit.core.topic import topic_of
from audit.planning.build import build_plan
from audit.planning.cost import estimate_cost
from audit.planning.expectation import expect_costs
from audit.planning.experience import Experience
from audit.planning.plan import AuditPlan
from audit.planning.run_identity import RunIdentity
from audit.planning.steps import study_steps
from audit.planning.throughput import Throughput
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults
from audit.runs.pipeline import run_audit
from audit.topics.certification.facts import BROKEN
from tests.runs.workers import configured

SUBJECT = RunIdentity(("a", "b"), (1, 28, 28), "test-pixels", 2000, "cnn-28", "train-pixels", 300, loaded="file:abc")


def planned(chunk: int, stop: object = "all", examples: int = 1000, battery: str = "quick") -> AuditPlan:
    size = {"examples": examples}
    return build_plan(
        load_config(
            overrides={
                "chunk": chunk,
                "stop": stop,
                "hardening": {"enabled": False},
                "robustness": {**size, "battery": battery},
                "corruptions": size,
            }
        ),
        SUBJECT,
    )


def sizes(plan: AuditPlan, study: str) -> list[int]:
    cells = {task.examples: len(task.examples) for task in plan.tasks if task.cell.study == study}
    return [cells[examples] for examples in sorted(cells, key=lambda examples: examples.start)]


@pytest.mark.parametrize(("chunk", "attacks"), [(500, [500, 500]), (300, [300, 200] * 2), (100, [100] * 10)])
def test_no_cell_of_attacks_holds_more_images_than_the_chunk(chunk: int, attacks: list[int]) -> None:
    """Corruptions cost so little that their cells stay as they are; steps are as many images however they are cut."""
    plan = planned(chunk)
    study = "robustness" if chunk == 500 else "battery-stretch"
    assert sizes(plan, study) == attacks and sizes(plan, "corruption") == [1000]
    assert sizes(plan, "robustness") == [500, 500]
    starts = sorted({task.examples.start for task in plan.tasks if task.cell.study == study})
    assert starts == list(np.cumsum([0, *attacks[:-1]]))


@pytest.mark.parametrize("stop", ["all", "decides"])
def test_looks_are_taken_at_as_many_images_however_they_are_cut(stop: str) -> None:
    steps = [sizes(planned(chunk, stop), "robustness") for chunk in (500, 16)]
    assert steps[0] == steps[1] == ([500, 500] if stop == "all" else [64, 32, 48, 72, 108, 162, 243, 271])


def test_cells_that_are_not_cut_are_the_same_as_without_a_chunk() -> None:
    """A step of 64 images is one cell of 64; the steps after it are cut."""
    small, plain = (
        [t.cell.key for t in planned(chunk, "decides").tasks if t.cell.study == "robustness"] for chunk in (64, 500)
    )
    assert [a == b for a, b in zip(small, plain, strict=True)] == [True, True, True, *[False] * 5]


def test_the_parts_of_a_step_belong_to_it_and_wait_for_its_turn() -> None:
    (robustness, *_) = [steps for steps in study_steps(planned(16, "decides")) if steps.study == "robustness"]
    assert [step[-1].examples.stop for step in robustness.steps] == list(
        np.cumsum([64, 32, 48, 72, 108, 162, 243, 271])
    )
    for step in robustness.steps:
        *parts, last = step
        assert last.cell.study == "robustness" and last.needs == {
            t.cell.key for t in parts if t.cell.study != "battery-choice"
        }
        assert all(last.examples.start <= t.examples.start < t.examples.stop <= last.examples.stop for t in parts)
    assert len({task.cell.key for task in robustness.tasks}) == len(robustness.tasks)


def test_under_the_rule_all_no_step_waits_for_another() -> None:
    (robustness, *_) = [steps for steps in study_steps(planned(100)) if steps.study == "robustness"]
    for step in robustness.steps:
        assert frozenset().union(*(task.needs for task in step)) <= {task.cell.key for task in step}


@pytest.mark.parametrize("battery", ["quick", "standard"])
def test_parts_are_expected_to_cost_what_the_whole_costs(battery: str) -> None:
    """But for the clean predictions that open the books of every part."""
    costs = []
    for chunk in (500, 100):
        plan = planned(chunk, battery=battery)
        tasks = [t for t in plan.tasks if topic_of(t.cell.study) is topic_of("robustness")]
        expectation = expect_costs(tasks, SUBJECT, Experience(Throughput(1e-4, 3e-4)))
        assert expectation.unknown == 0
        costs.append((estimate_cost(tasks, SUBJECT).passes, expectation.passes))
    for one, other in zip(*costs, strict=True):
        assert other.backwards == pytest.approx(one.backwards, rel=0.002)
        assert one.forwards <= other.forwards < 1.06 * one.forwards


def test_controls_of_attacks_are_cut_too() -> None:
    config = {"chunk": 30, "attack_controls": {"examples": 64}, "hardening": {"enabled": False}}
    assert sizes(build_plan(load_config(overrides=config), SUBJECT), "attack-controls") == [30, 30, 4]


def test_images_that_are_asked_once_are_more_to_a_cell() -> None:
    for chunk, cells in ((500, [2000]), (100, [1000, 1000]), (30, [300] * 6 + [200])):
        assert sizes(planned(chunk), "accuracy") == cells


@pytest.mark.parametrize(
    ("chunk", "attacks", "boxes"),
    [(500, [100, 100, 50], [250]), (60, [60] * 4 + [10], [60] * 4 + [10]), (1, [6] * 41 + [4], [4] * 62 + [2])],
)
def test_cells_of_detectors_are_cut_and_the_first_holds_what_is_shown(
    chunk: int, attacks: list[int], boxes: list[int]
) -> None:
    size = {"examples": 250}
    config = load_config(
        overrides={
            "chunk": chunk,
            "detection_robustness": {**size, "pictures": 6},
            "detection_explanations": {**size, "pictures": 4},
        }
    )
    plan = build_plan(config, replace(SUBJECT, task="detection", loaded="file:net"))
    assert sizes(plan, "detection-attack") == attacks and sizes(plan, "box-explanation") == boxes
    shown = {
        task.examples.start for task in plan.tasks if task.cell.settings.get("pictures") and "attack" in task.label
    }
    assert shown == {0}


BATTERY = [
    {"attack": "fgsm"},
    {"attack": "apgd-ce", "settings": {"steps": 4}, "hardest": 0.5, "title": "closest"},
    {"attack": "square", "settings": {"queries": 10}, "sample": 8, "title": "check"},
]


def told(results: RunResults) -> list[Finding]:
    """What the checks conclude, but for the cells that it rests on."""
    return [finding.model_copy(update={"evidence": ()}) for finding in run_checks(results, load_config())]


def test_pieces_join_to_the_answer_of_one_cell(tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "only": ["robustness", "corruptions"],
        "stop": "all",
        "robustness": {"examples": 12, "battery": BATTERY, "eps": 0.01, "curve": [0.005, 0.01]},
        "attack_controls": {"examples": 12},
        "certification": {"examples": 12, "effort": "bounds"},
        "corruptions": {"examples": 12},
    }
    whole, cut = (
        run_audit(configured(tmp_path, chunk=chunk, **parts), tmp_path / str(chunk)).results for chunk in (500, 5)
    )
    assert [len(results.entries("battery-stretch")) for results in (whole, cut)] == [0, 3 * 4]
    assert [len(results.entries("attack-controls")) for results in (whole, cut)] == [1, 3]
    for study, measured in (("robustness", "robust"), ("corruption", "correct"), ("attack-controls", "shrinking")):
        one, several = (r.per_example(study, measured, role="standard") for r in (whole, cut))
        assert len(one) == 12 and np.array_equal(one, several)
    verdicts = [
        np.concatenate(
            [e.evidence.arrays["verdicts"] for e in r.entries("certification", method="linear-bounds")], axis=1
        )
        for r in (whole, cut)
    ]
    assert np.array_equal(verdicts[0], verdicts[1]) and (verdicts[0] == BROKEN).any(), (
        "attacks settle images of every cell"
    )
    broken_by = [r.array("robustness", "broken_by", role="standard", axis=-1) for r in (whole, cut)]
    assert broken_by[0] is not None and np.array_equal(broken_by[0], broken_by[1])
    distances = [r.array("robustness", "minimal_eps", role="standard") for r in (whole, cut)]
    assert np.allclose(distances[0], distances[1], rtol=1e-3), "the same distances but for rounding"
    assert told(cut) == told(whole) and len(told(whole)) >= 3
    assert built_rows("attack_controls", cut) == built_rows("attack_controls", whole)
    (row,), (other,) = (built_rows("robustness", r) for r in (whole, cut))
    assert [attack.tried for attack in row.attacks] == [attack.tried for attack in other.attacks]
    assert row.curve == other.curve and 0.9 < other.cost.backwards / row.cost.backwards < 1.1
