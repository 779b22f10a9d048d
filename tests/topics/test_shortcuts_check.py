"""A convicted place as a verdict."""

from __future__ import annotations

from made_entries import (
    results_of,
)
from made_evidence import further_entries
from made_run import finding_of


def test_a_convicted_place_fails_the_model_and_names_the_class() -> None:
    found = {role: finding_of(results_of(*further_entries(role)), "shortcuts") for role in ("standard", "hardened")}
    assert (found["standard"].verdict, found["hardened"].verdict) == ("fail", "pass")
    assert "Trouser" in found["standard"].title
