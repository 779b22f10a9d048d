"""Proofs held against attacks, as verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_entries import entry, results_of, robustness_entry
from made_entries import pictures as made_pictures
from made_evidence import certification_entry
from made_run import finding_of

from audit.config import load_config
from audit.core.evidence import Evidence
from audit.core.statistics import Interval
from audit.document.locale import load_locale
from audit.document.section import SectionContext
from audit.planning.plan import Task
from audit.report.outcomes import outcome_rows
from audit.report.policy import Rule
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults
from audit.topics.certification.facts import BROKEN, OPEN, PROVEN
from audit.topics.certification.proven import settled_by_bounds
from audit.topics.certification.section import CertificatePart, brackets, build
from audit.topics.certification.view import bracket_chart


def attacked(right: int = 100):
    return robustness_entry("standard", 5.0, made_pictures(2), np.ones(right))


def test_a_proof_within_the_broken_distance_agrees_with_the_attacks() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    found = finding_of(results_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "pass" and found.values["n"] == found.values["proven"] == 100


def test_one_image_broken_inside_its_proof_fails_the_tool() -> None:
    task, evidence = attacked()
    proof = certification_entry("standard", evidence.arrays["minimal_eps"])
    radius = proof[1].measurements[0].per_example
    radius[3] = evidence.arrays["minimal_eps"][3] * 1.001
    found = finding_of(results_of((task, evidence), proof), "certified-not-broken")
    assert found.verdict == "fail" and found.values["count"] == 1


def test_proofs_of_another_classifier_or_norm_are_not_compared() -> None:
    proof = certification_entry("standard", np.full(40, 9.0))
    proof[1].facts["certifies"] = "the model smoothed by Gaussian noise"
    assert not [
        f for f in run_checks(results_of(attacked(), proof), load_config()) if f.check == "certified-not-broken"
    ]


def certificates(results: RunResults) -> list[CertificatePart]:
    return list(build(results, SectionContext(load_config(), (), ("standard",), pictures=False))["certificates"])


def bounds_entry(proven: int, broken: int = 0, n: int = 100):
    """The first images proven, the last broken, the rest open, at eps 0.05 and 0.1."""
    verdicts = np.full((2, n), OPEN)
    verdicts[:, :proven] = PROVEN
    verdicts[:, n - broken :] = BROKEN
    return entry(
        "certification",
        "standard",
        {"certified_radius": np.where(verdicts[1] == PROVEN, 0.1, 0.0), "certified": verdicts[1] == PROVEN},
        method="linear-bounds",
        settings={"problems": 7},
        threat={"norm": "linf", "eps": 0.1},
        arrays={"verdicts": verdicts, "proven_by": np.where(verdicts == PROVEN, 1, -1)},
        facts={
            "norm": "linf",
            "certifies": "the model itself",
            "eps": [0.05, 0.1],
            "rungs": ["interval-bounds", "crown"],
            "settings": {"problems": 7},
        },
    )


def test_the_bracket_shows_proven_unbroken_and_open_shares_of_the_same_images() -> None:
    (bracket,) = brackets(results_of(attacked(), bounds_entry(60, 25)))
    assert [(p.eps, p.proven.estimate, p.unbroken.estimate, p.open) for p in bracket.points] == [
        (0.05, 0.6, 0.75, 0.15),
        (0.1, 0.6, 0.75, 0.15),
    ]
    assert bracket.proven_by == {"crown": 60} and bracket.problems == 0 and bracket.n == 100


def in_stages(*stages: tuple[Task, Evidence]) -> list[tuple[Task, Evidence]]:
    """Each as a cell that goes on from the one before."""
    rows = [stages[0]]
    for task, evidence in stages[1:]:
        cell = replace(task.cell, inputs={"certification": rows[-1][0].cell.key})
        rows.append((replace(task, cell=cell), replace(evidence, cell=cell)))
    return rows


def test_of_proofs_that_were_asked_further_the_last_counts_alone() -> None:
    first, second = bounds_entry(40, 25), bounds_entry(60, 30)
    second[1].facts.update(rungs=["interval-bounds", "crown", "branch-and-bound"])
    second[1].arrays["proven_by"][:, 50:60] = 2
    results = results_of(attacked(), *in_stages(first, second))
    (bracket,) = brackets(results)
    assert bracket.n == 100 and bracket.problems == 7 and bracket.proven_by == {"crown": 50, "branch-and-bound": 10}
    assert [(p.proven.estimate, p.open) for p in bracket.points] == [(0.6, 0.1), (0.6, 0.1)]
    (certificate,) = certificates(results)
    assert certificate.n == 100
    assert [point.robust.estimate for point in certificate.curve if point.eps == 0.05] == [0.6]
    (proven,) = (row for row in outcome_rows(results, "standard") if row.quantity.startswith("proven"))
    assert proven.outcomes == "1" * 60 + "0" * 40
    assert finding_of(results, "certified-not-broken").values["n"] == 100
    assert settled_by_bounds(results, "standard", 0.6)


def test_a_stage_that_is_not_there_leaves_what_the_one_before_came_to() -> None:
    first, second = bounds_entry(40, 25), bounds_entry(60, 25)
    rows = in_stages(first, second)
    failed = (rows[1][0], replace(rows[1][1], status="failed", measurements=(), arrays={}))
    (bracket,) = brackets(results_of(attacked(), rows[0], failed))
    assert bracket.points[0].proven.estimate == 0.4


@pytest.mark.parametrize(
    ("rungs", "problems", "options"),
    [
        (["interval-bounds", "crown"], 7, "certification.effort=complete"),
        (["crown", "branch-and-bound"], 7, "certification.effort=complete --set certification.problems=500"),
        (["crown", "branch-and-bound"], 500, "certification.effort=complete --set certification.problems=5000"),
        (["crown", "branch-and-bound"], 2000, "certification.effort=complete --set certification.problems=5000"),
    ],
)
def test_open_images_are_asked_further_by_the_next_stage(rungs: list[str], problems: int, options: str) -> None:
    proofs = bounds_entry(20, 30)
    proofs[1].facts.update(rungs=rungs, settings={"problems": problems})
    found = finding_of(results_of(attacked(), proofs), "proofs-decide")
    assert found.verdict == "inconclusive" and found.command == f"audit run --set {options}"


@pytest.mark.parametrize(("proven", "broken", "verdict"), [(60, 25, "pass"), (5, 80, "pass"), (20, 30, "inconclusive")])
def test_the_verdict_hangs_on_open_images_only_between_the_bounds(proven: int, broken: int, verdict: str) -> None:
    found = finding_of(results_of(attacked(), bounds_entry(proven, broken)), "proofs-decide")
    assert found.verdict == verdict


@pytest.mark.parametrize(("proven", "verdict"), [(80, "pass"), (41, "inconclusive"), (0, "inconclusive")])
def test_enough_proofs_settle_what_weak_attacks_leave_in_doubt(proven: int, verdict: str) -> None:
    doubted = robustness_entry("standard", 10.0, made_pictures(4), np.ones(100), inconclusive=["Gradients vanish."])
    found = finding_of(results_of(doubted, bounds_entry(proven)), "robust-accuracy")
    assert found.verdict == verdict


def test_an_image_broken_inside_what_linear_bounds_proved_fails_the_tool() -> None:
    task, evidence = attacked()
    evidence.arrays["minimal_eps"][:] = 0.5
    assert finding_of(results_of((task, evidence), bounds_entry(60)), "certified-not-broken").verdict == "pass"
    evidence.arrays["minimal_eps"][3] = 0.07
    found = finding_of(results_of((task, evidence), bounds_entry(60)), "certified-not-broken")
    assert found.verdict == "fail" and found.values["count"] == 1


def test_the_finding_carries_the_interval_of_what_is_proven_so_that_a_policy_can_ask_for_it() -> None:
    found = finding_of(results_of(attacked(), bounds_entry(60, 25)), "proofs-decide")
    assert found.estimate == pytest.approx(0.6) and found.interval is not None
    low, high = found.interval
    assert 0.49 < low < 0.6 < high < 0.71
    rule = Rule(minimum=0.55)
    assert rule.verdict("pass", Interval(0.6, low, high, 100, "exact 95%"), weak_evidence=False) == "inconclusive"
    assert Rule(minimum=0.45).verdict("pass", Interval(0.6, low, high, 100, "exact 95%"), weak_evidence=False) == "pass"


@pytest.mark.parametrize(
    ("proven", "broken", "verdict"),
    [(60, 25, "informative"), (5, 80, "informative"), (20, 30, "inconclusive"), (None, 0, "inconclusive")],
)
def test_proofs_settle_what_masked_gradients_leave_in_doubt(proven: int | None, broken: int, verdict: str) -> None:
    suspicion = {"name": "zero", "value": 0.1, "limit": 0.0, "sentence": "Gradients vanish on 12 of 100 images."}
    doubted = entry("model-sanity", "standard", {}, facts={"suspicions": [suspicion]})
    proofs = [] if proven is None else [bounds_entry(proven, broken)]
    found = finding_of(results_of(attacked(), doubted, *proofs), "gradient-masking")
    assert found.verdict == verdict
    assert ("hides from attacks" in found.title) == (verdict == "inconclusive")
    assert "Gradients vanish" in found.explanation


def test_what_is_proven_is_an_outcome_of_each_image() -> None:
    rows = outcome_rows(results_of(attacked(), bounds_entry(60, 25)), "standard")
    (proven,) = (row for row in rows if row.quantity.startswith("proven"))
    assert proven.quantity == "proven linf 0.1" and proven.outcomes == "1" * 60 + "0" * 40


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_band_is_drawn_from_the_bracket_with_its_numbers_in_words(language: str) -> None:
    rows = brackets(results_of(attacked(), bounds_entry(60, 25)))
    svg = bracket_chart(rows, load_locale(language), 0.1)
    assert svg.startswith("<svg") and "60.0% - 75.0%" in svg and "0.05: " in svg
    assert svg.count("<path") >= 3
