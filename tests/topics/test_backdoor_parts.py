"""The search for a trigger in parts of some classes each: whatever the cut, the evidence of one cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_context import bare_context
from same_evidence import assert_same

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.core.seeding import fork_global_rng
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.build import build_plan
from audit.planning.cost import max_task_passes
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.backdoor.facts import SearchedClasses
from audit.topics.backdoor.study import backdoor, backdoor_part

CELL = Cell("backdoor", "smallest-triggers", settings={"steps": 24, "batch": 32}, seed=1)


def part(first: int, stop: int) -> Cell:
    classes = SearchedClasses(classes=(first, stop)).dump()
    return replace(CELL, study="backdoor-part", settings={**CELL.settings, **classes})


def joined(model: ModelUnderTest, batch: Batch, parts: dict[str, Evidence]) -> Evidence:
    cell = replace(CELL, inputs={name: evidence.cell.key for name, evidence in parts.items()})
    return backdoor(replace(bare_context(model, batch, cell), evidence=parts.__getitem__), cell)


@pytest.mark.parametrize("together", [1, 2, 3])
def test_parts_of_any_size_join_to_the_evidence_of_one_cell(
    together: int, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    whole = backdoor(bare_context(cnn_model, cnn_batch, CELL), CELL)
    cells = {f"part {first}": part(first, min(first + together, 4)) for first in (3, 2, 1, 0) if first % together == 0}
    parts = {name: backdoor_part(bare_context(cnn_model, cnn_batch, cell), cell) for name, cell in cells.items()}
    again = joined(cnn_model, cnn_batch, parts)
    assert_same(again, whole)
    spent = [again, *parts.values()]
    assert sum(e.forwards for e in spent) == whole.forwards and sum(e.backwards for e in spent) == whole.backwards
    assert 0 < again.forwards == len(cnn_batch) // 2 and again.backwards == 0, "the join judges, and searches nothing"


def test_what_a_part_found_is_what_is_joined(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    parts = {
        f"part {first}": backdoor_part(bare_context(cnn_model, cnn_batch, cell := part(first, first + 2)), cell)
        for first in (0, 2)
    }
    last = parts["part 2"]
    parts["part 2"] = replace(last, arrays={**last.arrays, "masks": np.zeros_like(last.arrays["masks"])})
    areas = [row["area"] for row in joined(cnn_model, cnn_batch, parts).facts["triggers"]]
    assert min(areas[:2]) > 0 and areas[2:] == [0, 0]


@pytest.mark.parametrize("cell", [CELL, part(1, 3)], ids=["whole", "part"])
def test_a_search_cut_off_at_any_price_goes_on_to_the_same_evidence(
    cell: Cell, cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path
) -> None:
    run = backdoor if cell is CELL else backdoor_part
    plain = bare_context(cnn_model, cnn_batch, cell)
    whole, seen = run(plain, cell), list[int]()
    for rounds in ([10], [10, 20]):

        def reached(rounds: list[int] = rounds) -> bool:
            return seen == rounds

        stopped = replace(plain, scratch=tmp_path, progress=lambda done, total: seen.append(done), stopping=reached)
        with pytest.raises(Interrupted, match="the same command resumes"):
            run(stopped, cell)
    assert seen == [10, 20], "a second process goes on with the steps after those of the first"
    before = cnn_model.passes
    again = run(replace(plain, scratch=tmp_path), cell)
    assert_same(again, whole, passes=True)
    assert (cnn_model.passes - before).backwards == whole.backwards, "what was spent before is charged"


def planned(classes: int, **overrides: object) -> tuple[list[Task], RunIdentity]:
    names = tuple(f"class {label}" for label in range(classes))
    subject = RunIdentity(names, (3, 32, 32), "test-pixels", 2000, "cnn-32", loaded="file:abc")
    config = load_config(overrides={"hardening": {"enabled": False}, "backdoor": {"examples": 512}, **overrides})
    return [t for t in build_plan(config, subject).tasks if t.cell.study.startswith("backdoor")], subject


@pytest.mark.parametrize(
    ("classes", "chunk", "cells"),
    [
        (10, 500, []),
        (15, 500, []),
        (16, 500, [15, 1]),
        (100, 500, [15] * 6 + [10]),
        (10, 100, [3, 3, 3, 1]),
        (10, 1, [1] * 10),
        (101, 1, []),
    ],
)
def test_classes_are_searched_in_parts_where_a_step_stamps_more_images_than_the_chunk(
    classes: int, chunk: int, cells: list[int]
) -> None:
    *parts, whole = planned(classes, chunk=chunk)[0]
    ranges = [SearchedClasses.of(task.cell).classes for task in parts]
    assert [stop - first for first, stop in ranges] == cells and whole.cell.study == "backdoor"
    assert [label for bounds in ranges for label in range(*bounds)] == list(range(classes if cells else 0))
    assert whole.needs == {task.cell.key for task in parts} and all(not task.needs for task in parts)


def test_parts_cost_at_most_what_the_whole_costs() -> None:
    """But for rounding: a bound is told an image."""
    (one,), several = planned(10)[0], planned(10, chunk=64)[0]
    most = [[max_task_passes(task, planned(10)[1]) for task in tasks] for tasks in ([one], several)]
    (whole,), pieces = most
    assert whole is not None and len(pieces) == 6 and whole.backwards >= 300 * 32 * 10
    assert sum(p.backwards for p in pieces if p) == pytest.approx(whole.backwards, rel=0.02)
    assert sum(p.forwards for p in pieces if p) == pytest.approx(whole.forwards, rel=0.02)


class Shaken(torch.nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + 0.1 * torch.randn_like(logits)


def test_a_model_that_answers_at_random_goes_on_with_the_same_random_numbers(
    cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path
) -> None:
    net = torch.nn.Sequential(cnn_model.net, Shaken())
    model = ModelUnderTest(net, classes=cnn_model.classes, input_shape=cnn_model.input_shape, device="cpu")
    plain, seen = bare_context(model, cnn_batch, CELL), list[int]()
    with fork_global_rng(torch.device("cpu"), "one"):
        whole = backdoor(plain, CELL)
    with fork_global_rng(torch.device("cpu"), "one"), pytest.raises(Interrupted):
        progress, stopping = (lambda done, total: seen.append(done)), (lambda: bool(seen))
        backdoor(replace(plain, scratch=tmp_path, progress=progress, stopping=stopping), CELL)
    with fork_global_rng(torch.device("cpu"), "another"):
        assert_same(backdoor(replace(plain, scratch=tmp_path), CELL), whole)
    with fork_global_rng(torch.device("cpu"), "another"):
        other = backdoor(plain, CELL)
    assert other.arrays["masks"].tobytes() != whole.arrays["masks"].tobytes()
