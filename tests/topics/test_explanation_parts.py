"""Studies that ask about each image by itself, in parts of some images each: the evidence of one cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bare_context import bare_context
from same_evidence import assert_same

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.registry import find
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.build import build_plan
from audit.planning.cost import max_task_passes
from audit.planning.expectation import expect_cost
from audit.planning.experience import CellCost, Experience
from audit.planning.parts import part_input, part_study
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.planning.throughput import Throughput

ASKED = {"output": "logit", "baseline": None}
BALL = {"norm": "linf", "eps": 0.1}
METHODS = {
    "saliency": {},
    "expected-gradients": {"method": {"samples": 20}, "references": 5},
    "lime": {"method": {"samples": 40}},
    "shap": {"method": {"samples": 40}},
}
JUDGED = {"sensitivity_samples": 1, "stages": 2, "infidelity_samples": 4, "seeds": 1}
DOWNSTREAM = (
    ("faithfulness", {"steps": 5}, None),
    ("attribution-quality", JUDGED, None),
    ("drift", {"kind": "constant-label"}, BALL),
    ("drift", {"kind": "manipulation"}, BALL),
)


class Computed:
    """Runs cells on ten images, or on some of them where the study is one of parts."""

    def __init__(self, model: ModelUnderTest, batch: Batch, scratch: Path) -> None:
        self.model, self.batch, self.scratch = model, batch, scratch

    def images(self, examples: Slice) -> Batch:
        return self.batch.select(torch.arange(examples.start, examples.stop))

    def run(self, cell: Cell, examples: Slice, inputs: Mapping[str, Evidence]) -> Evidence:
        cell = replace(cell, inputs={name: evidence.cell.key for name, evidence in inputs.items()})
        context = replace(
            bare_context(self.model, self.images(examples), cell, scratch=self.scratch / cell.key),
            task=Task(cell, "standard", examples, 0),
            evidence=lambda name: inputs[name],
            others=self.images,
        )
        found: Evidence = find("study", cell.study).function(context, cell)
        return found

    def whole(self, cell: Cell, inputs: Mapping[str, Evidence]) -> Evidence:
        return self.run(cell, Slice("test", 0, len(self.batch)), inputs)

    def parts(self, cell: Cell, size: int, inputs: Mapping[str, Mapping[int, Evidence]]) -> dict[int, Evidence]:
        of_part = replace(cell, study=part_study(cell.study))
        return {
            start: self.run(
                replace(of_part, examples=str(start)),
                Slice("test", start, min(start + size, len(self.batch))),
                {name: parts[start] for name, parts in inputs.items()},
            )
            for start in range(0, len(self.batch), size)
        }

    def joined(self, cell: Cell, parts: Mapping[int, Evidence]) -> Evidence:
        return self.whole(cell, {part_input(start): part for start, part in parts.items()})


@pytest.fixture
def computed(cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path) -> Computed:
    return Computed(cnn_model, cnn_batch, tmp_path)


def settings_of(method: str) -> dict[str, object]:
    return {**ASKED, **METHODS[method]}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_images_in_parts_of_any_size_join_to_the_evidence_of_one_cell(
    method: str, size: int, computed: Computed
) -> None:
    """Explanations and all that judges them; what one part explained, only that part judges.

    No part is a single image: this net's linear layer rounds otherwise there.
    """
    cells = [Cell("explanation", method, settings=settings_of(method)), Cell("faithfulness-baselines", "removal")]
    whole = {cell.study: computed.whole(cell, {}) for cell in cells}
    parts = {cell.study: computed.parts(cell, size, {}) for cell in cells}
    for cell in cells:
        assert_same(joined := computed.joined(cell, parts[cell.study]), whole[cell.study])
        assert joined.forwards == joined.backwards == 0 < sum(p.forwards for p in parts[cell.study].values())
    for study, settings, threat in DOWNSTREAM:
        names = {"explanation": "explanation"}
        if study == "faithfulness":
            names["controls"] = "faithfulness-baselines"
        cell = Cell(study, method, settings={**settings_of(method), **settings}, threat=threat)
        one = computed.whole(cell, {name: whole[of] for name, of in names.items()})
        several = computed.parts(cell, size, {name: parts[of] for name, of in names.items()})
        assert_same(computed.joined(cell, several), one)


@pytest.mark.parametrize("size", [3])
def test_masks_are_reused_part_by_part(size: int, computed: Computed) -> None:
    source, reader = (Cell("explanation", method, settings=settings_of(method)) for method in ("shap", "lime"))
    masks, in_parts = computed.whole(source, {}), computed.parts(source, size, {})
    whole, parts = computed.whole(reader, {"masks": masks}), computed.parts(reader, size, {"masks": in_parts})
    assert_same(computed.joined(reader, parts), whole)
    assert whole.facts["shared"]["shap"] == sum(part.facts["shared"]["shap"] for part in parts.values()) > 0


SUBJECT = RunIdentity(tuple("abcd"), (1, 28, 28), "test-pixels", 2000, "cnn-28", "train-pixels", 300, loaded="file:abc")
BY_IMAGE = ("explanation", "faithfulness", "faithfulness-baselines", "attribution-quality", "drift")


def planned(chunk: int, examples: int = 64) -> list[Task]:
    config = load_config(
        preset="standard",
        overrides={
            "chunk": chunk,
            "hardening": {"enabled": False},
            "explanations": {"examples": examples, "methods": ["lime", "shap", "expected-gradients"]},
        },
    )
    return [t for t in build_plan(config, SUBJECT).tasks if t.cell.study.removesuffix("-part") in BY_IMAGE]


def test_images_are_explained_and_judged_in_parts_where_they_are_more_than_the_chunk() -> None:
    assert not [task for task in planned(64) if task.cell.study.endswith("-part")]
    tasks = planned(30)
    keys = {task.cell.key: task for task in tasks}
    for study in BY_IMAGE:
        parts = [task for task in tasks if task.cell.study == f"{study}-part"]
        wholes = [t for t in tasks if t.cell.study == study and t.cell.settings.get("on", "clean") == "clean"]
        assert [len(task.examples) for task in parts] == [30, 30, 4] * len(wholes), study
        assert [n for t in wholes for n in t.cell.inputs if n.startswith("part ")] == [
            "part 0",
            "part 30",
            "part 60",
        ] * len(wholes)
        for part in parts:
            read = [keys[key] for key in part.needs]
            assert all(t.cell.study.endswith("-part") and t.examples == part.examples for t in read), study
    for examples, background in ((64, {0, 16}), (8, {0})):
        few = [t.cell.settings for t in planned(4, examples) if t.cell.study == "explanation-part"]
        assert {settings.get("references", 0) for settings in few} == background, "that of all images, if they suffice"


def test_parts_cost_what_the_whole_costs() -> None:
    whole, cut = planned(64), planned(30)
    for study in BY_IMAGE:
        totals = [
            [max_task_passes(t, SUBJECT) for t in tasks if t.cell.study.removesuffix("-part") == study]
            for tasks in (whole, cut)
        ]
        one, several = (sum(p.forwards + p.backwards for p in passes if p) for passes in totals)
        assert one == several > 0, study


def test_parts_are_expected_to_cost_what_cells_of_the_study_did() -> None:
    (one, *_), parts = planned(64), [t for t in planned(30) if t.cell.study == "explanation-part"]
    (part,) = [t for t in parts if t.cell.method == one.cell.method and len(t.examples) == 4]
    most = max_task_passes(one, SUBJECT)
    assert most is not None
    cheap = type(most)(most.forwards // 10, most.backwards // 10)
    known = Experience(Throughput(1e-4, 3e-4), (CellCost(one.cell, 64, cheap, 6.4, "store"),))
    cost = expect_cost(part, SUBJECT, known)
    assert cost is not None and cost.basis == "store"
    assert cost.passes.forwards == pytest.approx(cheap.forwards * 4 / 64, abs=1)
    assert cost.seconds == pytest.approx(0.4, rel=0.05)


def test_what_a_joined_cell_cost_tells_nothing_of_its_parts() -> None:
    """A stored run of parts: its joined cells hold all images and no passes."""
    *parts, whole = [t for t in planned(30) if t.cell.method == "lime" and t.cell.study.startswith("explanation")][:4]
    most = [max_task_passes(task, SUBJECT) for task in (*parts, whole)]
    costs = [
        CellCost(task.cell, len(task.examples), passes, 1.0, "store")
        for task, passes in zip((*parts, whole), most, strict=True)
        if passes is not None
    ]
    assert costs[-1].passes.forwards == 0 < costs[0].passes.forwards
    known = Experience(Throughput(1e-4, 3e-4), tuple(costs))
    assert known.passes_like(parts[0]) == most[0] and known.passes_like(whole) == most[-1]
