"""Whether maps are as precise as asked, as a verdict; what rests on others is left undecided; what a run plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_entries import entry, faithfulness_entries, results_of

from audit.config import load_config
from audit.core.evidence import Evidence, Finding
from audit.core.registry import find
from audit.planning.build import build_plan
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.planning.settings import ExplanationSettings
from audit.results.run_checks import run_checks
from audit.topics.explanations.section import ExplanationPart, _explanations

CONFIG = load_config()
SUBJECT = RunIdentity(
    classes=("a", "b"),
    shape=(3, 224, 224),
    test="test-pixels",
    test_examples=1200,
    architecture="cnn-28",
    train="train-pixels",
    train_examples=300,
)


def maps(method: str, reached: Sequence[float], role: str = "standard", **settings: Any) -> tuple[Task, Evidence]:
    """An explanation that says how precise it is."""
    chosen = find("attribution", method).settings({"precision": 0.3, **settings})
    values = {"error": np.full(len(reached), 0.25), "samples": np.full(len(reached), 320), "reached": reached}
    return entry("explanation", role, values, method=method, settings={"method": chosen}, forwards=7200)


def findings(*entries: tuple[Task, Evidence]) -> dict[tuple[str, str], Finding]:
    found = run_checks(results_of(*entries), CONFIG)
    return {(finding.check, str(finding.values.get("identifier", ""))): finding for finding in found}


def test_maps_that_reached_the_precision_pass_and_others_warn() -> None:
    found = findings(maps("lime", np.ones(24)), maps("shap", np.arange(24) < 18))
    assert found["precise-explanations", "lime"].verdict == "pass"
    warned = found["precise-explanations", "shap"]
    assert warned.verdict == "warn" and warned.estimate == 0.75
    assert "On 18 of 24 images" in warned.explanation and "30%" in warned.explanation
    assert "explanations.settings.shap.samples" in warned.advice
    steps = findings(maps("integrated-gradients", np.zeros(24)))["precise-explanations", "integrated-gradients"]
    assert "explanations.settings.integrated-gradients.max_steps" in steps.advice


@pytest.mark.parametrize(("share", "verdicts"), [(1.0, ("pass", "warn")), (0.25, ("inconclusive", "inconclusive"))])
def test_nothing_is_concluded_from_maps_most_of_which_are_imprecise(share: float, verdicts: tuple[str, str]) -> None:
    reached = np.arange(24) < share * 24
    found = findings(maps("integrated-gradients", reached), maps("lime", reached), *faithfulness_entries("standard"))
    judged = tuple(found["deletion-against-random", name].verdict for name in ("integrated-gradients", "lime"))
    assert judged == verdicts


def test_seeds_that_disagree_are_told_whatever_the_precision() -> None:
    values = {"seed_stability": np.full(24, 0.5), "max_sensitivity": np.full(24, 0.1)}
    found = findings(maps("lime", np.zeros(24)), entry("attribution-quality", "standard", values, method="lime"))
    assert found["seeded-explanations", "lime"].verdict == "warn"
    assert found["sensitive-explanations", "lime"].verdict == "inconclusive"


def test_the_document_says_what_a_map_cost_and_how_many_are_precise() -> None:
    (row,) = _explanations(results_of(maps("lime", np.arange(24) < 20)), "standard")
    assert (row.images, row.reached, row.precision, row.error) == (24, 20, 0.3, 0.25)
    assert row.cost.forwards / row.images == 300
    assert row.quality == {"samples": 320}
    (plain,) = _explanations(results_of(entry("explanation", "standard", {}, method="saliency")), "standard")
    assert plain.error is None and plain.reached is None
    earlier = plain.model_dump(exclude={"images", "precision", "error", "reached"})
    assert ExplanationPart.model_validate(earlier).images == 0, "documents of earlier versions are read"


def planned(**explanations: Any) -> dict[str, dict[str, Any]]:
    tasks = build_plan(load_config(overrides={"explanations": explanations}), SUBJECT).tasks
    cells = (task.cell for task in tasks if task.cell.study == "explanation")
    return {cell.method: ExplanationSettings.of(cell).method for cell in cells}


def test_a_run_asks_every_method_that_samples_for_its_precision() -> None:
    every = planned(
        methods=["all"], precision=0.2, settings={"rise": {"precision": 0.4}, "smooth-grad": {"precision": 0}}
    )
    assert {name for name, chosen in every.items() if chosen.get("precision") == 0.2} == {
        "lime",
        "shap",
        "expected-gradients",
        "integrated-gradients",
    }
    assert every["rise"]["precision"] == 0.4 and every["smooth-grad"]["precision"] is None
    assert all(chosen.get("precision") is None for chosen in planned(methods=["all"], precision=0).values())
    assert planned()["lime"]["precision"] == load_config().explanations.precision > 0
    assert load_config(preset="standard").explanations.precision < load_config().explanations.precision
    assert load_config(preset="full").explanations.precision == 0


@pytest.mark.parametrize("name", ["lime", "shap", "integrated-gradients"])
def test_what_is_expected_is_less_the_coarser_and_never_above_the_most(name: str) -> None:
    method, costs = find("attribution", name), []
    for precision in (0.4, 0.2, 0.02):
        settings = method.settings({"precision": precision})
        expected, most = (passes(settings, (3, 224, 224)) for passes in (method.expected_passes, method.max_passes))
        assert expected is not None and most is not None and expected.forwards <= most.forwards
        costs.append(expected.forwards)
    assert costs[0] < costs[1] < costs[2]
