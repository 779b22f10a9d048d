"""Other threats in parts, of some images or some classes each: whatever the cut, the evidence of one cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from bare_context import bare_context
from same_evidence import assert_same

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.build import build_plan
from audit.planning.cost import max_task_passes
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.other_threats.study import other_threats, other_threats_part
from audit.topics.surrogate.study import surrogate

IMAGES = 65
FEW = {"steps": 12, "images_a_step": 16, "loss": "margin"}
SPATIAL = Cell(
    "other-threats", "spatial", settings={"rotation": 10, "translation": 1, "attack": {"angles": 5, "shifts": 3}}
)
TRANSFER = Cell("other-threats", "transfer", threat={"norm": "linf", "eps": 0.08}, inputs={"surrogate": "key"})
AIMED = Cell("other-threats", "patch", settings={"area": 0.1, "targets": 4, "attack": FEW})
SUBJECT = RunIdentity(
    tuple(f"class {label}" for label in range(12)),
    (3, 32, 32),
    "test-pixels",
    2000,
    "cnn-32",
    train="train-pixels",
    train_examples=1000,
)


@pytest.fixture
def noise(cnn_model: ModelUnderTest) -> Batch:
    """65 images of noise, two of them labelled wrong."""
    images = torch.rand(IMAGES, 1, 12, 12, generator=torch.Generator().manual_seed(11))
    labels = cnn_model.predictions(images)
    labels[:2] = (labels[:2] + 1) % 4
    return Batch(images, labels, tuple(f"test/{i:05d}" for i in range(IMAGES)))


def imitation(model: ModelUnderTest, *, elsewhere: bool) -> Evidence:
    images = torch.rand(128, 1, 12, 12, generator=torch.Generator().manual_seed(5))
    batch = Batch(images, model.predictions(images), tuple(f"train/{i:05d}" for i in range(128)))
    cell = Cell("surrogate", "imitation", settings={"every": 2, "epochs": 1, "elsewhere": elsewhere})
    with TemporaryDirectory() as scratch:
        return surrogate(replace(bare_context(model, batch, cell), scratch=Path(scratch)), cell)


def computed(
    run: Callable[..., Evidence],
    model: ModelUnderTest,
    batch: Batch,
    cell: Cell,
    inputs: Mapping[str, Evidence],
    first: int = 0,
) -> Evidence:
    cell = replace(cell, inputs={name: evidence.cell.key for name, evidence in inputs.items()})
    context = replace(bare_context(model, batch, cell), evidence=inputs.__getitem__)
    task = replace(context.task, cell=cell, examples=Slice("test", first, first + len(batch)))
    return run(replace(context, task=task), cell)


@pytest.mark.parametrize("size", [2, 16, 64])
@pytest.mark.parametrize("name", ["spatial", "transfer", "transfer of a surrogate taught on other images"])
def test_images_in_parts_of_any_size_join_to_the_evidence_of_one_cell(
    name: str, size: int, cnn_model: ModelUnderTest, noise: Batch
) -> None:
    """The last part is a single image, of the half that is not scored where the surrogate learned from it."""
    cell = SPATIAL if name == "spatial" else TRANSFER
    inputs = {} if name == "spatial" else {"surrogate": imitation(cnn_model, elsewhere=name != "transfer")}
    whole = computed(other_threats, cnn_model, noise, cell, inputs)
    parts = {}
    for first in reversed(range(0, IMAGES, size)):
        some = noise.select(torch.arange(first, min(first + size, IMAGES)))
        of_part = replace(cell, study="other-threats-part")
        parts[f"part {first}"] = computed(other_threats_part, cnn_model, some, of_part, inputs, first)
    joined = computed(other_threats, cnn_model, noise, cell, {**inputs, **parts})
    assert_same(joined, whole)
    scored = np.isfinite(joined.measurement("withstood").per_example)
    assert 0 < joined.facts["right"] < joined.facts["scored"] == scored.sum() == (32 if name == "transfer" else IMAGES)
    assert (joined.forwards, joined.backwards) == (0, 0) and sum(p.forwards for p in parts.values()) > IMAGES


@pytest.mark.parametrize("together", [1, 2, 3])
def test_classes_in_parts_of_any_size_join_to_the_evidence_of_one_cell(
    together: int, cnn_model: ModelUnderTest, noise: Batch
) -> None:
    whole = computed(other_threats, cnn_model, noise, AIMED, {})
    parts = {}
    for first in range(0, 4, together):
        classes = {"classes": [first, min(first + together, 4)]}
        cell = replace(AIMED, study="other-threats-part", settings={**AIMED.settings, **classes})
        parts[f"part {first}"] = computed(other_threats_part, cnn_model, noise, cell, {})
    joined = computed(other_threats, cnn_model, noise, AIMED, parts)
    assert_same(joined, whole)
    assert sum(p.backwards for p in parts.values()) == whole.backwards > 0 == joined.backwards
    best = max(parts.values(), key=lambda part: part.facts["moved"])
    assert joined.facts["target"] == cnn_model.classes[best.facts["label"]]


def test_patches_that_were_cut_off_go_on_to_the_same_evidence(
    cnn_model: ModelUnderTest, noise: Batch, tmp_path: Path
) -> None:
    whole = other_threats(plain := bare_context(cnn_model, noise, AIMED), AIMED)
    made: list[int] = []
    for rounds in ([1], [1, 2], [1, 2, 3]):

        def reached(rounds: list[int] = rounds) -> bool:
            return made == rounds

        stopped = replace(plain, scratch=tmp_path, progress=lambda done, total: made.append(done), stopping=reached)
        with pytest.raises(Interrupted, match="the same command resumes"):
            other_threats(stopped, AIMED)
    assert_same(other_threats(replace(plain, scratch=tmp_path), AIMED), whole)
    assert made == [1, 2, 3], "no patch is made twice"


def planned(**overrides: object) -> list[Task]:
    config = load_config(overrides={"hardening": {"enabled": False}, **overrides})
    return [t for t in build_plan(config, SUBJECT).tasks if t.cell.study.startswith("other-threats")]


@pytest.mark.parametrize(
    ("examples", "chunk", "poses", "classes"),
    [
        (100, 500, [], []),
        (100, 99, [98, 2], [1] * 10),
        (2000, 500, [500] * 4, [7, 3]),
        (2000, 64, [64] * 31 + [16], [1] * 10),
        (10, 1, [2] * 5, [1] * 10),
        (7, 1, [], []),
    ],
)
def test_threats_are_cut_where_they_take_more_images_at_once_than_the_chunk(
    examples: int, chunk: int, poses: list[int], classes: list[int]
) -> None:
    tasks = planned(other_threats={"examples": examples}, chunk=chunk)
    parts = [task for task in tasks if task.cell.study == "other-threats-part"]
    for method in ("spatial", "transfer"):
        images = [task.examples for task in parts if task.cell.method == method]
        assert [len(some) for some in images] == poses and all(some.start % 2 == 0 for some in images)
    aimed = [task.cell.settings["classes"] for task in parts if task.cell.method == "patch"]
    assert [stop - first for first, stop in aimed] == classes
    wholes = [task for task in tasks if task.cell.study == "other-threats"]
    assert [task.cell.method for task in wholes] == ["spatial", "universal", "patch", "patch", "transfer"]
    assert {len(task.examples) for task in wholes} == {examples}
    assert {key for task in wholes for key in task.needs} >= {task.cell.key for task in parts}


def test_parts_cost_what_the_whole_costs() -> None:
    """But for what is asked of the model before and after a threat, in every part of those towards classes."""
    most = []
    for chunk in (500, 50):
        tasks = planned(other_threats={"examples": 100}, chunk=chunk)
        passes = [max_task_passes(task, SUBJECT) for task in tasks]
        assert len(tasks) == (5 if chunk == 500 else 5 + 2 + 2 + 10) and all(passes)
        most.append([sum(getattr(p, way) for p in passes if p) for way in ("forwards", "backwards")])
    assert most[0][1] == most[1][1] and most[0][0] <= most[1][0] < 1.1 * most[0][0]
