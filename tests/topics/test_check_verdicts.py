from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from made_entries import (
    accuracy_entry,
    corruption_entries,
    dossier_of,
    entry,
    faithfulness_entries,
    pictures,
    robustness_entry,
)
from made_evidence import further_entries, oracle_entry
from made_run import made_dossier

from audit.config import RunConfig, load_config
from audit.core.evidence import Finding
from audit.core.statistics import Interval, wilson
from audit.document.display_names import display_name
from audit.results.check_result import at_least, at_most
from audit.results.queries import clean_correct, corruption_correct, group_by_condition
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults

CONFIG = load_config()


def only(dossier: RunResults, check: str, config: RunConfig = CONFIG) -> Finding:
    (found,) = [f for f in run_checks(dossier, config) if f.check == check]
    return found


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [(0.5, 0.7, "pass", "fail"), (0.3, 0.7, "inconclusive", "inconclusive"), (0.1, 0.3, "fail", "pass")],
)
def test_the_verdict_rests_on_the_bound_not_on_the_point(low: float, high: float, least: str, most: str) -> None:
    interval = Interval((low + high) / 2, low, high, 100, "")
    assert at_least(interval, 0.4) == least
    assert at_most(interval, 0.4) == most


@pytest.mark.parametrize(("share", "verdict"), [(0.95, "pass"), (0.8, "inconclusive"), (0.5, "fail")])
def test_clean_accuracy_is_held_to_its_threshold(share: float, verdict: str) -> None:
    right = (np.arange(100) < 100 * share).astype(float)
    found = only(dossier_of(entry("accuracy", "standard", {"correct": right})), "clean-accuracy")
    assert found.verdict == verdict
    expected = wilson(round(100 * share), 100)
    assert found.interval == (expected.low, expected.high)
    assert found.n == 100
    assert (found.advice == "") == (verdict == "pass")


def test_chunks_of_examples_are_one_measurement() -> None:
    whole = dossier_of(accuracy_entry("standard", 0.9, 60), accuracy_entry("standard", 0.9, 40, start=60))
    assert only(whole, "clean-accuracy").n == 100
    assert clean_correct(whole, "standard").positions.tolist() == list(range(100))


def robust(correct: np.ndarray, strength: float, **facts: object) -> Finding:
    images = pictures(4)
    dossier = dossier_of(robustness_entry("standard", strength, images, correct, **facts))
    return only(dossier, "robust-accuracy")


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
    dossier = dossier_of(*(robustness_entry("standard", 1, pictures(4), np.ones(50), start) for start in (0, 50)))
    ((at, entries),) = group_by_condition(dossier.entries("robustness"))
    assert (at.norm, at.eps, len(entries)) == ("linf", 0.1, 2)
    assert only(dossier, "robust-accuracy").n == 100


def test_calibration_fails_a_model_that_is_always_too_sure() -> None:
    labels = (np.arange(200) % 2).astype(np.int64)
    logits = np.tile(np.array([[6.0, 0.0]], np.float32), (200, 1))
    arrays = {"logits": logits, "labels": labels}
    dossier = dossier_of(entry("accuracy", "standard", {"correct": labels == 0}, arrays=arrays))
    found = only(dossier, "calibration")
    assert found.verdict == "fail"
    assert found.estimate == pytest.approx(0.4975, abs=1e-3)


def test_a_single_image_says_nothing_of_confidence() -> None:
    arrays = {"logits": np.array([[6.0, 0.0]], np.float32), "labels": np.array([1])}
    dossier = dossier_of(entry("accuracy", "standard", {"correct": np.zeros(1)}, arrays=arrays))
    assert only(dossier, "calibration").verdict == "inconclusive"


def test_corruption_compares_the_same_images_with_and_without() -> None:
    clean_entry = entry("accuracy", "standard", {"correct": np.r_[np.ones(50), np.zeros(50)]})
    worn = entry("corruption", "standard", {"correct": np.zeros(50)}, method="fog", settings={"severity": 5})
    found = only(dossier_of(clean_entry, worn), "corruption")
    assert found.estimate == pytest.approx(1.0)
    assert (found.verdict, found.n) == ("fail", 50)


@pytest.mark.parametrize(("images", "verdict"), [(1, "inconclusive"), (9, "inconclusive"), (10, "pass")])
def test_a_few_images_say_nothing_of_corruptions(images: int, verdict: str) -> None:
    right = {"correct": np.ones(images)}
    worn = entry("corruption", "standard", right, method="fog", settings={"severity": 5})
    assert only(dossier_of(entry("accuracy", "standard", right), worn), "corruption").verdict == verdict


def test_corrupted_reads_the_images_all_conditions_saw() -> None:
    parts = [
        entry("corruption", "standard", {"correct": np.full(n, value)}, method=name, settings={"severity": 1})
        for name, n, value in (("fog", 30, 1.0), ("snow", 20, 0.0))
    ]
    found = corruption_correct(dossier_of(*parts), "standard")
    assert found.positions.tolist() == list(range(20))
    assert found.values == pytest.approx(0.5)


def test_deletion_is_judged_by_method_against_its_random_order() -> None:
    found = [f for f in run_checks(dossier_of(*faithfulness_entries("standard")), CONFIG)]
    verdicts = {str(f.values["identifier"]): f.verdict for f in found}
    assert verdicts["integrated-gradients"] == "pass"
    assert verdicts["lime"] == "warn"


def test_too_few_images_leave_a_map_undecided() -> None:
    areas = {"deletion_area": np.linspace(0.1, 0.2, 9), "deletion_area_random": np.linspace(0.6, 0.8, 9)}
    few = dossier_of(entry("faithfulness", "standard", areas, method="lime"))
    assert [finding.verdict for finding in run_checks(few, CONFIG)] == ["inconclusive"]


def test_a_convicted_place_fails_the_model_and_names_the_class() -> None:
    found = {role: only(dossier_of(*further_entries(role)), "shortcuts") for role in ("standard", "hardened")}
    assert (found["standard"].verdict, found["hardened"].verdict) == ("fail", "pass")
    assert "Trouser" in found["standard"].title


@pytest.mark.parametrize(("holds", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_missed_oracle_fails_the_tool(holds: bool, verdict: str) -> None:
    found = only(dossier_of(oracle_entry(holds)), "self-test")
    assert found.verdict == verdict and "linear game" in found.explanation


def test_a_check_is_silent_where_nothing_was_measured() -> None:
    dossier = dossier_of(*corruption_entries("standard", 0.1))
    assert {f.check for f in run_checks(dossier, CONFIG)} == set()


def test_every_template_of_every_finding_fills() -> None:
    found = run_checks(made_dossier(), CONFIG)
    assert {f.check for f in found} >= {
        "clean-accuracy",
        "robust-accuracy",
        "calibration",
        "corruption",
        "deletion-against-random",
    }
    for finding in found:
        assert finding.title and finding.explanation and finding.criterion
        assert "{" not in finding.title + finding.explanation + finding.criterion + finding.advice


def test_checks_load_no_torch() -> None:
    code = "import sys, audit.results.run_checks as j; j.methods('check'); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("lime", "LIME"),
        ("integrated-gradients", "Integrated gradients"),
        ("grad-cam", "Grad-CAM"),
        ("grad-cam-plus-plus", "Grad-CAM++"),
        ("apgd-t-closest", "APGD-T closest"),
        ("random_noise", "Random noise"),
    ],
)
def test_identifiers_are_written_as_readers_know_them(identifier: str, text: str) -> None:
    assert display_name(identifier) == text
