"""`chunk`: how many images a cell of attacks holds, and that cells of any size join to the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.config import load_config
from audit.planning.build import build_plan
from audit.planning.plan import AuditPlan
from audit.planning.run_identity import RunIdentity
from audit.planning.steps import study_steps
from audit.runs.pipeline import run_audit
from audit.topics.robustness.facts import RobustnessSettings
from tests.runs.workers import configured

SUBJECT = RunIdentity(("a", "b"), (1, 28, 28), "test-pixels", 2000, "cnn-28", "train-pixels", 300, loaded="file:abc")


def planned(chunk: int, stop: object = "all", examples: int = 1000) -> AuditPlan:
    size = {"examples": examples}
    return build_plan(
        load_config(
            overrides={
                "chunk": chunk,
                "stop": stop,
                "hardening": {"enabled": False},
                "robustness": size,
                "corruptions": size,
            }
        ),
        SUBJECT,
    )


def sizes(plan: AuditPlan, study: str) -> list[int]:
    cells = {task.examples: len(task.examples) for task in plan.tasks if task.cell.study == study}
    return [cells[examples] for examples in sorted(cells, key=lambda examples: examples.start)]


@pytest.mark.parametrize(("chunk", "attacks"), [(500, [500, 500]), (300, [300, 300, 300, 100]), (100, [100] * 10)])
def test_no_cell_of_attacks_holds_more_images_than_the_chunk(chunk: int, attacks: list[int]) -> None:
    """Corruptions cost so little that their cells stay as they are."""
    plan = planned(chunk)
    assert sizes(plan, "robustness") == attacks and sizes(plan, "corruption") == [1000]
    starts = [task.examples.start for task in plan.tasks if task.cell.study == "robustness"]
    assert starts == list(np.cumsum([0, *attacks[:-1]]))


def test_the_first_cell_holds_what_other_topics_read_of_it() -> None:
    """24 images are explained."""
    assert sizes(planned(16), "robustness")[:2] == [24, 16]
    assert sizes(planned(16, "decides"), "robustness")[:2] == [24, 12]


def test_the_first_of_small_cells_alone_runs_the_controls() -> None:
    first, *others = [task for task in planned(100).tasks if task.cell.study == "robustness"]
    assert RobustnessSettings.of(first.cell).sanity_checks
    assert not any(RobustnessSettings.of(task.cell).sanity_checks for task in others)
    assert all(RobustnessSettings.of(t.cell).sanity_checks for t in planned(500).tasks if t.cell.study == "robustness")


def test_under_the_rule_all_no_cell_waits_for_another() -> None:
    (robustness, *_) = [steps for steps in study_steps(planned(100)) if steps.study == "robustness"]
    assert len(robustness.steps) == 10 and not any(task.needs for task in robustness.tasks)


def test_pieces_join_to_the_answer_of_one_cell(tmp_path: Path) -> None:
    parts = {"only": ["robustness", "corruptions"], "robustness": {"examples": 40}, "corruptions": {"examples": 40}}
    whole, pieces = (
        run_audit(configured(tmp_path, chunk=chunk, stop="all", **parts), tmp_path / str(chunk)).results
        for chunk in (500, 16)
    )
    assert len(whole.entries("robustness")) == 1 and len(pieces.entries("robustness")) == 3
    for study, measured in (("robustness", "robust"), ("corruption", "correct")):
        one, several = (r.per_example(study, measured, role="standard") for r in (whole, pieces))
        assert len(one) == 40 and np.array_equal(one, several)
    eps = [r.array("robustness", "minimal_eps", role="standard") for r in (whole, pieces)]
    assert eps[0] is not None and eps[1] is not None
    assert np.allclose(eps[0], eps[1], rtol=1e-3), "the same distances but for rounding"
