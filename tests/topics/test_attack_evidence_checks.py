from __future__ import annotations

import numpy as np
import pytest
from made_entries import dossier_of, entry, robustness_entry
from made_entries import pictures as made_pictures
from made_evidence import certification_entry

from audit.config import load_config
from audit.core.evidence import Finding
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults

CONFIG = load_config()
DOUBT = {"name": "doubled", "value": 0.1, "limit": 0.005, "sentence": "Twice the effort broke 6 of 64 images more."}


def only(dossier: RunResults, check: str) -> Finding:
    (found,) = [f for f in run_checks(dossier, CONFIG) if f.check == check]
    return found


def attacked(right: int = 100):
    return robustness_entry("standard", 5.0, made_pictures(2), np.ones(right))


def controls(*doubts: dict):
    return entry("attack-controls", "standard", {"doubled": np.zeros(64)}, method="quick", facts={"suspicions": doubts})


def test_controls_that_hold_pass_and_say_on_how_many_images() -> None:
    found = only(dossier_of(controls()), "attack-controls")
    assert found.verdict == "pass" and found.n == 64 and "quick battery" in found.explanation


def test_a_control_that_fails_taints_the_robust_accuracy_too() -> None:
    dossier = dossier_of(attacked(), controls(DOUBT))
    assert only(dossier, "attack-controls").verdict == "inconclusive"
    assert DOUBT["sentence"] in only(dossier, "attack-controls").explanation
    robust = only(dossier, "robust-accuracy")
    assert robust.verdict == "inconclusive" and DOUBT["sentence"] in robust.explanation
    assert only(dossier_of(attacked(), controls()), "robust-accuracy").verdict == "pass"


def test_a_proof_within_the_broken_distance_agrees_with_the_attacks() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    found = only(dossier_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "pass" and found.values["n"] == found.values["proven"] == 100


def test_one_image_broken_inside_its_proof_fails_the_tool() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    radius = proof[1].measurements[0].per_example
    radius[3] = evidence.arrays["minimal_eps"][3] * 1.001
    found = only(dossier_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "fail" and found.values["count"] == 1


def test_proofs_of_another_classifier_or_norm_are_not_compared() -> None:
    proof = certification_entry("standard", np.full(40, 9.0))
    proof[1].facts["certifies"] = "the model smoothed by Gaussian noise"
    assert not [f for f in run_checks(dossier_of(attacked(), proof), CONFIG) if f.check == "certified-not-broken"]


def triggers(areas: list[float], moved: int = 95, tried: int = 100, index: float = 1.0) -> RunResults:
    rows = [
        {"class": f"class {k}", "area": area, "anomaly": index, "moved": moved, "tried": tried, "reached": True}
        for k, area in enumerate(areas)
    ]
    facts = {"triggers": rows, "made_on": 128}
    return dossier_of(entry("backdoor", "standard", {"moved": np.zeros(100)}, facts=facts))


@pytest.mark.parametrize(
    ("areas", "index", "moved", "verdict"),
    [
        ([0.1, 0.09, 0.08, 0.11, 0.01], 5.0, 95, "fail"),
        ([0.1, 0.09, 0.08, 0.11, 0.05], 2.5, 95, "warn"),
        ([0.1, 0.09, 0.08, 0.11, 0.05], 1.5, 95, "pass"),
        ([0.1, 0.09, 0.08, 0.11, 0.01], 5.0, 40, "pass"),
        ([0.1, 0.01], 5.0, 95, "inconclusive"),
    ],
)
def test_a_class_stands_out_by_a_small_patch_that_carries_over(
    areas: list[float], index: float, moved: int, verdict: str
) -> None:
    found = only(triggers(areas, index=index, moved=moved), "backdoor")
    assert found.verdict == verdict
    if verdict == "fail":
        assert "class 4" in found.title and "1.0% of the image" in found.title and found.n == 100
