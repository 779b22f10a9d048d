"""What cells of a store tell of the cells of a plan."""

from __future__ import annotations

import json

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.pass_count import PassCount
from audit.planning.build import build_plan
from audit.planning.expectation import expect_cost, expect_costs
from audit.planning.experience import CellCost, Experience
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.throughput import Throughput

SETTINGS = {"fills": ("mean", "blur"), "steps": 8, "eps": [0.1], "deep": {"b": 1, "a": (2, 3)}}


def task(**settings: object) -> Task:
    cell = Cell("faithfulness", "saliency", model="file:m", settings={**SETTINGS, **settings})
    return Task(cell, "standard", Slice("test", 0, 20), 0)


def cost(cell: Cell) -> CellCost:
    return CellCost(cell, 10, PassCount(100, 0), 1.0, "store")


def test_a_stored_cell_is_like_a_planned_one_of_the_same_settings_though_json_has_no_tuples_and_no_order() -> None:
    stored = json.loads(json.dumps(dict(reversed(SETTINGS.items()))))
    same = cost(Cell("faithfulness", "saliency", model="file:m", settings={**stored, "eps": [0.2]}))
    other = cost(Cell("faithfulness", "saliency", model="file:m", settings={**stored, "steps": 9}))
    experience = Experience(Throughput(1e-3, 2e-3), (other, same))
    assert experience.like(task()) == (same,)
    assert experience.passes_like(task()) == PassCount(200, 0)
    assert experience.like(task(steps=10)) == ()


def test_cells_that_are_asked_together_cost_what_each_costs_alone() -> None:
    """Cells of other images are taken to cost alike, and those of other settings or sizes are not."""
    config = load_config(overrides={"preset": "standard", "stop": "all", "chunk": 50, "robustness": {"examples": 230}})
    subject = RunIdentity(tuple("0123456789"), (1, 28, 28), "test", 1000, "cnn-28", "train", 6000)
    tasks = build_plan(config, subject).tasks
    experience = Experience(Throughput(1e-4, 3e-4))
    together = expect_costs(tasks, subject, experience).by_task
    alone = {task.cell.key: expect_cost(task, subject, experience) for task in tasks}
    assert together == {key: cost for key, cost in alone.items() if cost is not None}
