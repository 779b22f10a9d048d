"""A study cut off between any two of its steps ends, when asked again, in the same evidence at the same cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.core.registry import find
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.explanations.study import explanation
from audit.topics.robustness.study import robustness

ASKED = {"output": "logit", "baseline": None}
CELLS = {
    "explanation": Cell("explanation", "shap", settings={"method": {"samples": 64}, **ASKED}),
    "attribution-quality": Cell(
        "attribution-quality",
        "lime",
        settings={"method": {"samples": 60}, "sensitivity_samples": 2, "stages": 2, **ASKED},
    ),
    "drift": Cell(
        "drift", "saliency", settings={"kind": "constant-label", **ASKED}, threat={"norm": "linf", "eps": 0.1}
    ),
    "faithfulness-baselines": Cell("faithfulness-baselines", "removal", settings={"steps": 6}),
    "faithfulness": Cell("faithfulness", "saliency", settings={"steps": 6}),
    "attack-controls": Cell(
        "attack-controls", "quick", settings={"eps": [0.05, 0.1]}, threat={"norm": "linf", "eps": 0.1}
    ),
    "certification": Cell("certification", "smoothing", settings={"sigma": 0.3, "samples": 200}),
}
STEPS = {
    "explanation": 3,
    "attribution-quality": 6,
    "drift": 2,
    "faithfulness-baselines": 4,
    "faithfulness": 4,
    "certification": 3,
    "attack-controls": 6,
}


class Watched:
    """Runs a cell again and again in one scratch folder, and stops it after so many steps."""

    def __init__(self, model: ModelUnderTest, batch: Batch, cell: Cell, scratch: Path) -> None:
        self.model, self.batch, self.cell, self.scratch = model, batch, cell, scratch
        if cell.study in ("attribution-quality", "drift", "faithfulness"):
            asked = Cell("explanation", cell.method, settings={**ASKED, "method": cell.settings.get("method", {})})
            self.input = explanation(bare_context(model, batch, asked), asked)
        if cell.study == "attack-controls":
            asked = replace(cell, study="robustness")
            self.input = robustness(bare_context(model, batch, asked), asked)

    def run(self, *, stop_after: int | None = None) -> Evidence:
        seen: list[int] = []
        context = replace(
            bare_context(self.model, self.batch, self.cell, scratch=self.scratch),
            evidence=lambda name: self.input,
            progress=lambda done, total: seen.append(done),
            stopping=lambda: len(seen) == stop_after,
        )
        found: Evidence = find("study", self.cell.study).function(context, self.cell)
        assert seen == list(range(1, STEPS[self.cell.study] + 1))
        return found


def same(first: Evidence, second: Evidence) -> None:
    assert (first.status, first.facts) == (second.status, second.facts)
    assert (first.forwards, first.backwards) == (second.forwards, second.backwards)
    assert {m.name for m in first.measurements} == {m.name for m in second.measurements}
    for one in first.measurements:
        assert np.array_equal(one.per_example, second.measurement(one.name).per_example, equal_nan=True), one.name
    assert first.arrays.keys() == second.arrays.keys()
    assert all(np.array_equal(array, second.arrays[name]) for name, array in first.arrays.items())


@pytest.mark.parametrize("study", sorted(CELLS))
def test_cut_off_after_each_step(
    study: str, cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.topics.certification.study._STRIDE", 4)
    monkeypatch.setattr("audit.topics.explanations.study._PIXELS_PER_STEP", 16 * 4 * 12 * 12)
    whole = Watched(cnn_model, cnn_batch, CELLS[study], tmp_path / "whole").run()
    assert whole.status == "measured" and whole.forwards > 0 and not (tmp_path / "whole").exists()
    watched = Watched(cnn_model, cnn_batch, CELLS[study], tmp_path / "cut")
    for after in range(STEPS[study]):
        with pytest.raises(Interrupted, match="the same command resumes"):
            watched.run(stop_after=after)
    before = cnn_model.passes
    same(watched.run(), whole)
    assert (cnn_model.passes - before).forwards >= whole.forwards, "what was spent before is charged"


def test_finished_steps_ask_the_model_nothing(cnn_model: ModelUnderTest, cnn_batch: Batch, tmp_path: Path) -> None:
    watched, asked = Watched(cnn_model, cnn_batch, CELLS["faithfulness-baselines"], tmp_path), []
    cnn_model.net.register_forward_hook(lambda net, inputs, output: asked.append(len(output)))
    with pytest.raises(Interrupted):
        watched.run(stop_after=3)
    first = sum(asked)
    whole = watched.run()
    assert 0 < sum(asked) - first < first and whole.forwards == sum(asked) - len(cnn_batch)
