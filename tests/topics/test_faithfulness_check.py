"""Deletion against a random order as a verdict."""

from __future__ import annotations

import numpy as np
from made_entries import (
    entry,
    faithfulness_entries,
    results_of,
)

from audit.config import load_config
from audit.results.run_checks import run_checks

CONFIG = load_config()


def test_deletion_is_judged_by_method_against_its_random_order() -> None:
    found = [f for f in run_checks(results_of(*faithfulness_entries("standard")), CONFIG)]
    verdicts = {str(f.values["identifier"]): f.verdict for f in found}
    assert verdicts["integrated-gradients"] == "pass"
    assert verdicts["lime"] == "warn"


def test_too_few_images_leave_a_map_undecided() -> None:
    areas = {"deletion_area": np.linspace(0.1, 0.2, 9), "deletion_area_random": np.linspace(0.6, 0.8, 9)}
    few = results_of(entry("faithfulness", "standard", areas, method="lime"))
    assert [finding.verdict for finding in run_checks(few, CONFIG)] == ["inconclusive"]
