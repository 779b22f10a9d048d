"""Robust accuracy as a verdict: doubts neither rescue nor pass a model."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import (
    pictures,
    results_of,
    robustness_entry,
)
from made_run import finding_of

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.row_flags import pooled_rows, row_flags
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


@pytest.mark.parametrize("stored_by", ["this version", "an earlier one"])
def test_what_attacks_did_is_judged_over_the_images_of_all_cells(stored_by: str) -> None:
    """A blind attack broke one of fifty twice: no cell alone says more than bad luck, which is what it used to say."""
    guided = {"name": "fgsm", "needs": "gradients", "eps": 0.1, "survivors": 50, "tried": 50, "broke": 0}
    blind = {"name": "square", "needs": "scores", "eps": 0.1, "survivors": 50, "tried": 50, "broke": 1}
    facts = {"rows": [guided, blind], **({"rows_judged": False} if stored_by == "this version" else {})}
    cells = [robustness_entry("standard", 10.0, pictures(4), np.ones(50), start, **facts) for start in (0, 50)]
    assert finding_of(results_of(cells[0]), "robust-accuracy").verdict == "pass"
    found = finding_of(results_of(*cells), "robust-accuracy")
    assert found.verdict == ("inconclusive" if stored_by == "this version" else "pass")
    assert ("broke 2 of 100 images" in found.explanation) is (stored_by == "this version")


def test_a_control_of_one_cell_is_held_against_the_images_of_that_cell() -> None:
    row = {"attack": "square", "needs": "scores", "eps": 0.1, "survivors": 40, "tried": 20}
    control = AttackResult(name="check", broke=2, **row)
    guided = AttackResult(name="fgsm", needs="gradients", tried=50, survivors=50)
    cells = [([guided, control], 50), ([guided], 950)]
    _, (_, images) = pooled_rows(cells)
    (flag,) = row_flags(cells)
    assert images == 50 and flag.value == pytest.approx(2 / 20 * 40 / 50)
