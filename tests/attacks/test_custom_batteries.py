"""Batteries that a user puts together: any attack that is bound by a ball can join, and its name seeds nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from attack_settings import EVERY, QUICKER

from audit.adversarial.batteries import BATTERIES, battery_named, battery_of_cell
from audit.adversarial.battery import AttackSpec
from audit.adversarial.custom_battery import custom_battery
from audit.adversarial.run_battery import run_battery
from audit.adversarial.verify import verify
from audit.core.errors import UsageError
from audit.core.registry import Method, methods
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

EPS = {"linf": 0.03, "l2": 0.3, "l1": 2.0, "l0": 4.0}
TINY = {"linf": 1e-4, "l2": 1e-3, "l1": 1e-3, "l0": 0.0}


def alone(method: Method, **more: Any) -> AttackSpec:
    return AttackSpec(method.name, QUICKER.get(method.name, {}), **more)


@pytest.mark.parametrize(("method", "norm"), EVERY)
def test_every_attack_runs_alone_and_the_battery_says_what_the_verifier_says(
    method: Method, norm: Any, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    battery, eps = custom_battery([alone(method)]), EPS[norm]
    outcome = run_battery(cnn_model, cnn_batch, norm, [eps], battery=battery, seed=4)
    (row,) = outcome.rows
    assert (row.name, row.tried, row.faults, str(row.reason)) == (method.name, len(cnn_batch), 0, "")
    purpose = f"{battery.entries[0].seed_stream} {norm} {eps!r}"
    draws = Generators.of(cnn_batch.ids, seed=4, purpose=purpose, device="cpu")
    threat, settings = ThreatModel(norm, eps), method.settings(battery.entries[0].settings)
    verdicts = verify(cnn_model, cnn_batch, method.function(cnn_model, cnn_batch, threat, draws, **settings), threat)
    assert torch.equal(~outcome.robust, verdicts.broken)
    assert outcome.battery == "custom" and outcome.protocol.startswith(method.name)


@pytest.mark.parametrize(("method", "norm"), EVERY)
def test_no_attack_takes_more_passes_than_it_declares(
    method: Method, norm: Any, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """In a ball too small for any adversarial example nothing ends early."""
    settings = method.settings(QUICKER.get(method.name))
    draws = Generators.of(cnn_batch.ids, seed=0, purpose="cost", device="cpu")
    with cnn_model.count() as spent:
        method.function(cnn_model, cnn_batch, ThreatModel(norm, TINY[norm]), draws, **settings)
    declared = method.max_passes(settings, cnn_model.input_shape)
    assert declared is not None
    assert spent.passes.forwards <= declared.forwards * len(cnn_batch)
    assert spent.passes.backwards <= declared.backwards * len(cnn_batch)


@pytest.mark.parametrize("method", methods("attack"), ids=lambda method: method.name)
def test_effort_and_early_stops_are_settings_of_the_attack(method: Method) -> None:
    harder = method.doubled(method.defaults)
    assert harder is not None and harder.keys() == method.defaults.keys()
    for name in method.facts["effort"]:
        assert harder[name] == 2 * method.defaults[name]
    assert all(harder[name] is False for name in method.facts["early_stops"])
    assert set(method.facts["effort"]) >= {"steps", "queries", "draws", "restarts"} & method.defaults.keys()


def test_a_minimal_attack_runs_once_for_every_eps(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    eps = [0.05, 0.2, 0.8]
    battery = custom_battery([AttackSpec("ddn", {"steps": 30}), AttackSpec("fgsm")])
    outcome = run_battery(cnn_model, cnn_batch, "l2", eps, battery=battery)
    assert [row.name for row in outcome.rows] == ["ddn", "fgsm", "fgsm", "fgsm"]
    assert (outcome.minimal_eps[~outcome.survived[-1]] <= 0.8 * (1 + 1e-5)).all()
    assert outcome.survived[0].sum() > outcome.survived[-1].sum()


def test_an_attack_without_the_norm_says_so_and_counts_nothing(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    outcome = run_battery(cnn_model, cnn_batch, "linf", [0.03], battery="carlini-wagner,fgsm")
    refused, ran = outcome.rows
    assert (refused.tried, str(refused.reason)) == (0, "This attack exists for l2, not for linf.")
    assert ran.tried == len(cnn_batch) and outcome.inconclusive == ()


def test_a_battery_of_which_nothing_has_the_norm_is_refused(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    with pytest.raises(UsageError, match=r"exists for linf: carlini-wagner for l2; ead for l1\."):
        run_battery(cnn_model, cnn_batch, "linf", [0.03], battery="carlini-wagner,ead")


def test_where_no_attack_could_run_the_evidence_is_weak(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    """DeepFool has no targeted form."""
    goal = torch.zeros(10, 4, dtype=torch.bool).scatter_(1, ((cnn_batch.labels + 1) % 4)[:, None], True)
    outcome = run_battery(cnn_model, replace(cnn_batch, adversarial_classes=goal), "l2", [0.3], battery="deepfool")
    assert outcome.rows[0].tried == 0 and any("No attack of the battery ran" in str(s) for s in outcome.inconclusive)


@pytest.mark.parametrize("name", ["spatial", "universal", "patch"])
def test_an_attack_with_a_threat_of_its_own_is_told_where_it_runs(name: str) -> None:
    with pytest.raises(UsageError, match=r"other_threats\.examples"):
        battery_named(f"fgsm,{name}")


@pytest.mark.parametrize("name", ["apgd_ce", "quik", "fgsm,squares"])
def test_an_unknown_name_lists_batteries_and_attacks(name: str) -> None:
    with pytest.raises(UsageError, match=r"Batteries: quick, standard, autoattack, full\. Attacks: apgd-ce, .*square"):
        battery_named(name)


def test_a_battery_does_not_mix_with_attacks() -> None:
    with pytest.raises(UsageError, match="'quick' cannot be mixed"):
        battery_named("fgsm,quick")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no attack"),
        ([AttackSpec("fgsm"), AttackSpec("fgsm", {"loss": "ce"})], "same settings"),
        ([AttackSpec("fgsm", name="a"), AttackSpec("pgd", name="a")], r"same names \(a\)"),
        ([AttackSpec("fgsm", name="clean")], r"same names \(clean\)"),
        ([AttackSpec("pgd", {"stpes": 3})], "stpes"),
        ([AttackSpec("fgsm"), AttackSpec("pgd", hardest_fraction=0.0)], r"in \(0, 1\]"),
        ([AttackSpec("fgsm", hardest_fraction=0.5)], "no attack before it"),
    ],
)
def test_rows_that_make_no_battery_are_a_sentence(rows: list[AttackSpec], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        custom_battery(rows)


def test_neither_the_title_nor_the_place_changes_a_draw(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    noise = AttackSpec("random-noise", {"draws": 3}, control_sample=4)

    def nearest(*entries: AttackSpec) -> torch.Tensor:
        battery = replace(custom_battery(entries), refine_steps=0)
        return run_battery(cnn_model, cnn_batch, "linf", [0.03], battery=battery).nearest

    plain = nearest(AttackSpec("pgd", {"steps": 3}))
    assert torch.equal(plain, nearest(AttackSpec("pgd", {"steps": 3, "restarts": 1}, name="a name for the report")))
    assert torch.equal(plain, nearest(AttackSpec("pgd", {"steps": 3}), noise))
    assert not torch.equal(plain, nearest(AttackSpec("pgd", {"steps": 4})))


@pytest.mark.parametrize("battery", BATTERIES.values(), ids=BATTERIES)
def test_the_draws_of_batteries_that_ship_stay_what_they_were(battery: Any) -> None:
    assert [entry.seed_stream for entry in battery.entries] == [entry.title for entry in battery.entries]


def test_a_stored_cell_brings_its_battery_back() -> None:
    battery = custom_battery(
        [
            AttackSpec("pgd", {"steps": 3}),
            AttackSpec("pgd", {"steps": 30}, hardest_fraction=0.3),
            AttackSpec("square", {"queries": 20}, "check", control_sample=4),
            AttackSpec("mi-fgsm", {}, transferred=True),
        ]
    )
    again = battery_of_cell("custom", json.loads(json.dumps(battery.describe())))
    assert again.describe() == battery.describe() and again.protocol == battery.protocol
    assert [entry.seed_stream for entry in again.entries] == [entry.seed_stream for entry in battery.entries]
    assert [entry.title for entry in again.entries] == ["pgd", "pgd-2", "check", "mi-fgsm"]
    assert battery.protocol == (
        "pgd (steps 3); pgd (steps 30) on the 30% nearest to breaking; square (queries 20) on 4 images not yet "
        "broken, as a check; mi-fgsm transferred from a surrogate"
    )
    assert battery_of_cell("quick", None) is BATTERIES["quick"]


@pytest.mark.parametrize("name", ["quick", "standard", "autoattack", "full"])
def test_a_cell_has_the_attacks_that_it_was_planned_with(name: str) -> None:
    fewer = BATTERIES[name].without_controls()
    assert battery_of_cell(name, json.loads(json.dumps(fewer.describe()))) == fewer
    assert battery_of_cell(name, json.loads(json.dumps(BATTERIES[name].describe()))) == BATTERIES[name]
    assert battery_of_cell(name, [[["of an older version"]], 6]) == BATTERIES[name]


@pytest.mark.parametrize(
    ("attacks", "weak"),
    [("fgsm", True), ("square", True), ("random-noise,fgsm", True), ("apgd-ce", False), ("fgsm,ddn", False)],
)
def test_a_battery_without_an_iterative_gradient_attack_is_weak_evidence(
    attacks: str, weak: bool, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    outcome = run_battery(cnn_model, cnn_batch, "l2", [0.1], battery=attacks)
    assert weak == any(reason.key == "battery_not_iterative" for reason in outcome.inconclusive)


def test_no_battery_that_ships_is_weak_evidence_by_itself() -> None:
    assert all(battery.iterative for battery in BATTERIES.values())
