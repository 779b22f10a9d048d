"""When a class that a small patch leads to is called a trigger."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import entry, results_of
from made_run import finding_of

from audit.results.run_results import RunResults


def triggers(areas: list[float], moved: int = 95, tried: int = 100, index: float = 1.0) -> RunResults:
    rows = [
        {"class": f"class {k}", "area": area, "anomaly": index, "moved": moved, "tried": tried, "reached": True}
        for k, area in enumerate(areas)
    ]
    facts = {"triggers": rows, "made_on": 128}
    return results_of(entry("backdoor", "standard", {"moved": np.zeros(100)}, facts=facts))


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
    found = finding_of(triggers(areas, index=index, moved=moved), "backdoor")
    assert found.verdict == verdict
    if verdict == "fail":
        assert "class 4" in found.title and "1.0% of the image" in found.title and found.n == 100
