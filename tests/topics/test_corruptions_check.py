"""Accuracy on corrupted images as a verdict."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import (
    entry,
    results_of,
)
from made_run import finding_of

from audit.results.queries import corruption_correct


def test_corruption_compares_the_same_images_with_and_without() -> None:
    clean_entry = entry("accuracy", "standard", {"correct": np.r_[np.ones(50), np.zeros(50)]})
    worn = entry("corruption", "standard", {"correct": np.zeros(50)}, method="fog", settings={"severity": 5})
    found = finding_of(results_of(clean_entry, worn), "corruption")
    assert found.estimate == pytest.approx(1.0)
    assert (found.verdict, found.n) == ("fail", 50)


@pytest.mark.parametrize(("images", "verdict"), [(1, "inconclusive"), (9, "inconclusive"), (10, "pass")])
def test_a_few_images_say_nothing_of_corruptions(images: int, verdict: str) -> None:
    right = {"correct": np.ones(images)}
    worn = entry("corruption", "standard", right, method="fog", settings={"severity": 5})
    assert finding_of(results_of(entry("accuracy", "standard", right), worn), "corruption").verdict == verdict


def test_corrupted_reads_the_images_all_conditions_saw() -> None:
    parts = [
        entry("corruption", "standard", {"correct": np.full(n, value)}, method=name, settings={"severity": 1})
        for name, n, value in (("fog", 30, 1.0), ("snow", 20, 0.0))
    ]
    found = corruption_correct(results_of(*parts), "standard")
    assert found.positions.tolist() == list(range(20))
    assert found.values == pytest.approx(0.5)
