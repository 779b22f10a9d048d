"""Controls that hold and controls that fail, as verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import entry, results_of, robustness_entry
from made_entries import pictures as made_pictures
from made_run import built_rows, finding_of

DOUBT = {"name": "doubled", "value": 0.1, "limit": 0.005, "sentence": "Twice the effort broke 6 of 64 images more."}


def attacked(right: int = 100):
    return robustness_entry("standard", 5.0, made_pictures(2), np.ones(right))


def controls(*doubts: dict):
    """As earlier versions stored them: the cell says itself which controls failed."""
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


def cell_of(broken: int, start: int, count: int = 20):
    """A cell whose images begin at a position, some of them broken once the effort is doubled."""
    values = {"noise_only": np.zeros(count), "doubled": np.r_[np.ones(broken), np.zeros(count - broken)]}
    return entry("attack-controls", "standard", values, method="quick", start=start)


@pytest.mark.parametrize(("broken", "verdict"), [((1, 0, 0), "pass"), ((1, 0, 1), "inconclusive")])
def test_the_images_of_all_cells_are_held_against_a_threshold_together(broken: tuple[int, ...], verdict: str) -> None:
    """Half a percent and two images at least: no cell has two."""
    results = results_of(attacked(), *(cell_of(count, 20 * number) for number, count in enumerate(broken)))
    found = finding_of(results, "attack-controls")
    assert (found.verdict, found.n) == (verdict, 60)
    assert finding_of(results, "robust-accuracy").verdict == verdict
    rows = {row.name: row for row in built_rows("attack_controls", results)}
    assert rows["doubled"].count == sum(broken) and rows["doubled"].doubted is (verdict == "inconclusive")
    if verdict == "inconclusive":
        assert "broke 2 of 60 images more" in found.explanation
