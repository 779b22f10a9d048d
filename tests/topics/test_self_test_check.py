"""A missed oracle as a verdict."""

from __future__ import annotations

import pytest
from made_entries import (
    results_of,
)
from made_evidence import oracle_entry
from made_run import finding_of


@pytest.mark.parametrize(("holds", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_missed_oracle_fails_the_tool(holds: bool, verdict: str) -> None:
    found = finding_of(results_of(oracle_entry(holds)), "self-test")
    assert found.verdict == verdict and "linear game" in found.explanation
