"""What a plan expects and the most that it fears, held against what a run of every topic then counts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.config import RunConfig, load_config
from audit.core.types import PassCount
from audit.planning.build import build_plan
from audit.planning.cost import max_task_passes
from audit.planning.expectation import Expectation, expect_costs, most_seconds
from audit.planning.plan import MODEL_STUDIES, Task
from audit.runs.past_costs import examples_of
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.probe import learn_costs
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from audit.storage.store import Store
from tests.runs.conftest import TINY

EVERY_TOPIC: dict[str, Any] = TINY | {
    "data": {"train_examples": 200},
    "hardening": {"enabled": False},
    "stop": "all",
    "robustness": {"examples": 16, "battery": "fgsm,apgd-dlr,random-noise"},
    "explanations": {"examples": 1, "methods": ["lime", "saliency"]},
    "drift": {"enabled": True},
    "attribution_quality": {"enabled": True},
    "attack_controls": {"examples": 6},
    "certification": {"examples": 1},
    "shortcuts": {"examples": 8},
    "other_threats": {"examples": 8},
    "self_test": {"enabled": True},
}
MEASURED = {
    *("accuracy", "agreement", "attack-controls", "attribution-quality", "certification", "corruption", "drift"),
    *("explanation", "faithfulness", "faithfulness-baselines", "model-sanity", "other-threats", "robustness"),
    *("data-health", "label-errors", "self-test", "shortcuts", "surrogate", "training"),
    "concepts",
    "influence",
    "slices",
    "refusal",
}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_config(overrides=EVERY_TOPIC)


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return run_audit(config, tmp_path_factory.mktemp("every-topic"))


@pytest.fixture(scope="module")
def setup(config: RunConfig) -> RunSetup:
    return set_up(config)


def measured(run: AuditRun) -> Iterator[tuple[Task, PassCount]]:
    for task in run.results.plan.tasks:
        evidence = run.results.evidence[task.cell.key]
        if evidence.status == "measured":
            yield task, PassCount(evidence.forwards, evidence.backwards)


def test_no_cell_of_any_topic_costs_more_than_its_bound(finished: AuditRun, setup: RunSetup) -> None:
    seen, untold = set(), set()
    for task, spent in measured(finished):
        most = max_task_passes(task, setup.subject)
        seen.add(task.cell.study)
        if most is None:
            untold.add((task.cell.study, task.cell.method))
            continue
        assert spent.forwards <= most.forwards and spent.backwards <= most.backwards, (task.label, spent, most)
    assert seen == MEASURED
    assert untold == {("certification", "linear-bounds")}, "which go as far as each image takes"


def totals(run: AuditRun, expected: Expectation) -> tuple[int, int]:
    """Passes of the cells that were foretold, counted and expected."""
    counted = foretold = 0
    for task, spent in measured(run):
        if (cost := expected.by_task.get(task.cell.key)) is not None and task.cell.study not in MODEL_STUDIES:
            counted += spent.forwards + spent.backwards
            foretold += cost.passes.forwards + cost.passes.backwards
    return counted, foretold


def test_a_probe_tells_within_a_factor_of_two_what_the_run_counts(
    finished: AuditRun, setup: RunSetup, tmp_path: Path
) -> None:
    plan, whole = finished.results.plan, finished.folder.store
    store = Store(tmp_path / "store")
    for task in plan.tasks:
        if task.cell.study in MODEL_STUDIES and (evidence := whole.get(task.cell.key)) is not None:
            store.put(evidence)
    before = sorted(path for path in store.root.rglob("*"))
    experience = learn_costs(setup, plan, store)
    assert sorted(path for path in store.root.rglob("*")) == before, "nothing is written to the run's store"
    assert experience.probed >= 4 and {cost.source for cost in experience.cells} == {"probe", "store"}
    expected = expect_costs(plan.tasks, setup.subject, experience)
    counted, foretold = totals(finished, expected)
    assert counted / 2 < foretold < 2 * counted
    for task in plan.tasks:
        cost, most = expected.by_task.get(task.cell.key), max_task_passes(task, setup.subject, experience.draws)
        if cost is not None and most is not None:
            assert cost.passes.forwards <= most.forwards and cost.passes.backwards <= most.backwards, task.label
    spent = next(passes for task, passes in measured(finished) if task.cell.study == "influence")
    influence = next(task for task in plan.tasks if task.cell.study == "influence")
    told = expected.by_task[influence.cell.key].passes
    assert spent.forwards <= told.forwards < 1.1 * spent.forwards, "training images cost the same for any question"
    assert expected.seconds < most_seconds(plan.tasks, setup.subject, experience)
    assert expected.bases["probe"] > expected.bases.get("usual", 0)


def test_a_model_that_does_not_exist_yet_is_told_by_what_is_usual(setup: RunSetup, tmp_path: Path) -> None:
    plan = build_plan(setup.config, setup.subject)
    experience = learn_costs(setup, plan, Store(tmp_path / "none"), probe=False)
    expected = expect_costs(plan.tasks, setup.subject, experience)
    assert experience.cells == () and experience.probed == 0 and set(expected.bases) == {"usual", "declared"}
    training = next(task for task in plan.tasks if task.cell.study == "training")
    assert expected.by_task[training.cell.key].seconds > 0
    assert not (tmp_path / "none").exists()


def test_the_store_tells_of_more_examples_of_the_same_model(
    finished: AuditRun, setup: RunSetup, tmp_path: Path
) -> None:
    more = setup.config.model_copy(update={"robustness": setup.config.robustness.model_copy(update={"examples": 32})})
    plan = build_plan(more, setup.subject)
    shutil.copytree(finished.folder.store.root, tmp_path / "store")
    experience = learn_costs(setup, plan, Store(tmp_path / "store"), probe=False)
    expected = expect_costs(plan.tasks, setup.subject, experience)
    attacked = next(task for task in plan.tasks if task.cell.study == "robustness")
    cost = expected.by_task[attacked.cell.key]
    spent = next(passes for task, passes in measured(finished) if task.cell.study == "robustness")
    assert cost.basis == "store" and examples_of(attacked.cell) == 32
    assert 1.3 * spent.forwards < cost.passes.forwards < 2.6 * spent.forwards
    assert experience.like(attacked)[0].seconds is not None, "it ran on this machine"
