"""Controls that hold and controls that fail, as verdicts."""

from __future__ import annotations

import numpy as np
from made_entries import entry, results_of, robustness_entry
from made_entries import pictures as made_pictures
from made_run import finding_of

DOUBT = {"name": "doubled", "value": 0.1, "limit": 0.005, "sentence": "Twice the effort broke 6 of 64 images more."}


def attacked(right: int = 100):
    return robustness_entry("standard", 5.0, made_pictures(2), np.ones(right))


def controls(*doubts: dict):
    return entry("attack-controls", "standard", {"doubled": np.zeros(64)}, method="quick", facts={"suspicions": doubts})


def test_controls_that_hold_pass_and_say_on_how_many_images() -> None:
    found = finding_of(results_of(controls()), "attack-controls")
    assert found.verdict == "pass" and found.n == 64 and "quick battery" in found.explanation


def test_a_control_that_fails_taints_the_robust_accuracy_too() -> None:
    results = results_of(attacked(), controls(DOUBT))
    assert finding_of(results, "attack-controls").verdict == "inconclusive"
    assert DOUBT["sentence"] in finding_of(results, "attack-controls").explanation
    robust = finding_of(results, "robust-accuracy")
    assert robust.verdict == "inconclusive" and DOUBT["sentence"] in robust.explanation
    assert finding_of(results_of(attacked(), controls()), "robust-accuracy").verdict == "pass"
