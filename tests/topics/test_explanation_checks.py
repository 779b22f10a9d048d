"""Drift and judging as verdicts: what moves beyond noise, what survives the controls, what is too little to tell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from made_entries import dossier_of, entry

from audit.config import load_config
from audit.core.evidence import Finding
from audit.results.run_checks import run_checks

THREAT = {"norm": "linf", "eps": 8 / 255}


def spread(centre: float, count: int = 24) -> np.ndarray:
    return centre + np.random.default_rng(3).normal(0, 0.02, count)


def drifted(kind: str, moved: np.ndarray, noise: np.ndarray) -> list[Finding]:
    values = {"agreement": moved, "agreement_random": noise}
    made = entry("drift", "standard", values, method="lime", settings={"kind": kind}, threat=THREAT)
    return list(run_checks(dossier_of(made), load_config()))


def judged(values: Mapping[str, np.ndarray]) -> dict[str, Finding]:
    made = entry("attribution-quality", "standard", values, method="grad-cam")
    return {found.check: found for found in run_checks(dossier_of(made), load_config())}


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


@pytest.mark.parametrize(
    ("check", "measurement", "good", "bad"),
    [
        ("randomised-weights", "randomisation_similarity", 0.05, 0.9),
        ("sensitive-explanations", "max_sensitivity", 0.2, 1.4),
        ("seeded-explanations", "seed_stability", 0.95, 0.4),
    ],
)
def test_each_control_tells_a_good_map_from_a_bad_one(check: str, measurement: str, good: float, bad: float) -> None:
    assert judged({measurement: spread(good)})[check].verdict == "pass"
    assert judged({measurement: spread(bad)})[check].verdict == "warn"
    assert judged({measurement: spread(good, 9)})[check].verdict == "inconclusive"


def test_a_map_must_beat_the_strongest_of_the_blind_ones() -> None:
    """Ahead of noise and behind the edges: the edges decide. The blurred copy of the map itself is no rival."""

    def verdict(edges: float) -> str:
        values = {"road_area": spread(0.4), "road_area_random": spread(0.8)[::-1], "road_area_blurred": spread(0.1)}
        return judged(values | {"road_area_edges": spread(edges)[::-1]})["better-than-blind"].verdict

    assert [verdict(0.6), verdict(0.4), verdict(0.2)] == ["pass", "inconclusive", "warn"]


def test_images_without_a_value_are_left_out() -> None:
    values = spread(0.05)
    values[:5] = np.nan
    assert judged({"randomisation_similarity": values})["randomised-weights"].n == 19
    assert judged({"randomisation_similarity": np.full(24, np.nan)}) == {}
