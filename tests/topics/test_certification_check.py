"""Proofs held against attacks, as verdicts."""

from __future__ import annotations

import numpy as np
from made_entries import pictures as made_pictures
from made_entries import results_of, robustness_entry
from made_evidence import certification_entry
from made_run import finding_of

from audit.config import load_config
from audit.results.run_checks import run_checks


def attacked(right: int = 100):
    return robustness_entry("standard", 5.0, made_pictures(2), np.ones(right))


def test_a_proof_within_the_broken_distance_agrees_with_the_attacks() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    found = finding_of(results_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "pass" and found.values["n"] == found.values["proven"] == 100


def test_one_image_broken_inside_its_proof_fails_the_tool() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    radius = proof[1].measurements[0].per_example
    radius[3] = evidence.arrays["minimal_eps"][3] * 1.001
    found = finding_of(results_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "fail" and found.values["count"] == 1


def test_proofs_of_another_classifier_or_norm_are_not_compared() -> None:
    proof = certification_entry("standard", np.full(40, 9.0))
    proof[1].facts["certifies"] = "the model smoothed by Gaussian noise"
    assert not [
        f for f in run_checks(results_of(attacked(), proof), load_config()) if f.check == "certified-not-broken"
    ]
