"""Robust accuracy as a verdict: doubts neither rescue nor pass a model."""

from __future__ import annotations

import numpy as np
from made_entries import (
    pictures,
    results_of,
    robustness_entry,
)
from made_run import finding_of

from audit.core.evidence import Finding
from audit.results.queries import group_by_condition


def robust(correct: np.ndarray, strength: float, **facts: object) -> Finding:
    images = pictures(4)
    results = results_of(robustness_entry("standard", strength, images, correct, **facts))
    return finding_of(results, "robust-accuracy")


def test_robust_accuracy_passes_only_without_doubts() -> None:
    right = np.ones(100)
    assert robust(right, 10.0).verdict == "pass"
    doubted = robust(right, 10.0, inconclusive=["Gradients vanish."])
    assert doubted.verdict == "inconclusive"
    assert "Gradients vanish." in doubted.explanation


def test_doubts_do_not_rescue_a_broken_model() -> None:
    """Weak attacks that broke it anyway: stronger ones could only break more."""
    assert robust(np.ones(100), 0.01, inconclusive=["Gradients vanish."]).verdict == "fail"


def test_robustness_chunks_with_other_settings_still_join() -> None:
    results = results_of(*(robustness_entry("standard", 1, pictures(4), np.ones(50), start) for start in (0, 50)))
    ((at, entries),) = group_by_condition(results.entries("robustness"))
    assert (at.norm, at.eps, len(entries)) == ("linf", 0.1, 2)
    assert finding_of(results, "robust-accuracy").n == 100
