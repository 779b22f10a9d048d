"""Quality of attributions as verdicts: what survives the controls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from made_entries import entry, results_of

from audit.config import load_config
from audit.core.evidence import Finding
from audit.results.run_checks import run_checks


def spread(centre: float, count: int = 24) -> np.ndarray:
    return centre + np.random.default_rng(3).normal(0, 0.02, count)


def judged(values: Mapping[str, np.ndarray]) -> dict[str, Finding]:
    made = entry("attribution-quality", "standard", values, method="grad-cam")
    return {found.check: found for found in run_checks(results_of(made), load_config())}


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
