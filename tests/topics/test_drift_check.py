"""Drift as a verdict: what moves beyond noise, and what is too little to tell."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import entry, results_of

from audit.config import load_config
from audit.core.evidence import Finding
from audit.results.run_checks import run_checks

THREAT = {"norm": "linf", "eps": 8 / 255}


def spread(centre: float, count: int = 24) -> np.ndarray:
    return centre + np.random.default_rng(3).normal(0, 0.02, count)


def drifted(kind: str, moved: np.ndarray, noise: np.ndarray) -> list[Finding]:
    values = {"agreement": moved, "agreement_random": noise}
    made = entry("drift", "standard", values, method="lime", settings={"kind": kind}, threat=THREAT)
    return list(run_checks(results_of(made), load_config()))


@pytest.mark.parametrize(
    ("kind", "check"),
    [("constant-label", "drift-at-constant-label"), ("manipulation", "steered-explanations")],
)
@pytest.mark.parametrize(("moved", "verdict"), [(0.88, "pass"), (0.8, "inconclusive"), (0.3, "warn")])
def test_a_map_fails_only_beyond_what_noise_does_to_it(kind: str, check: str, moved: float, verdict: str) -> None:
    (found,) = drifted(kind, spread(moved), spread(0.9)[::-1])
    assert (found.check, found.verdict) == (check, verdict)
    assert found.estimate == pytest.approx(0.9 - moved, abs=1e-9)
    assert "linf 8/255" in found.explanation


def test_a_map_that_noise_moves_as_far_is_not_blamed_on_the_attack() -> None:
    (found,) = drifted("manipulation", spread(0.1), spread(0.1)[::-1])
    assert found.verdict == "pass"


def test_only_images_that_moved_both_ways_are_paired() -> None:
    moved, noise = spread(0.3), spread(0.9)
    moved[:4], noise[-16:] = np.nan, np.nan
    (found,) = drifted("constant-label", moved, noise)
    assert (found.n, found.verdict) == (4, "inconclusive")


def test_maps_that_could_not_be_moved_and_models_compared_give_no_verdict() -> None:
    assert drifted("constant-label", np.full(24, np.nan), spread(0.9)) == []
    assert drifted("between-models", spread(0.1), spread(0.9)) == []
