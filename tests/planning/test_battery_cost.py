"""The expected cost of a battery, held against a slow twin that walks from image to image and counts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.batteries import battery_named
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.custom_battery import custom_battery
from audit.adversarial.run_battery import run_battery
from audit.core.pass_count import PassCount
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.battery_cost import (
    VERIFIER_FORWARDS,
    BatteryOutcomes,
    BatteryRequest,
    before_and_after,
    expected_battery_passes,
    most_battery_passes,
)

EPS = (0.1, 0.2, 0.4)
BATTERY = custom_battery(
    [AttackSpec("fgsm"), AttackSpec("pgd", {"steps": 7}), AttackSpec("random-noise", {"draws": 3}, control_sample=1000)]
)


@dataclass(frozen=True)
class Fate:
    """How one image fares: wrong before (0), or broken by an attack from a step on at an eps; never for None."""

    wrong: bool
    attack: int | None
    eps: float
    step: int


def fates() -> st.SearchStrategy[list[Fate]]:
    fate = st.builds(
        Fate, st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from(EPS), st.integers(min_value=1, max_value=7)
    )
    return st.lists(fate, min_size=1, max_size=12)


def walked(images: list[Fate], headline: float) -> tuple[PassCount, list[AttackResult], int]:
    """Image by image, eps by eps, attack by attack: the passes counted, what each attack did, and the images broken."""
    rows: dict[tuple[str, float], dict[str, int]] = {}
    forwards = backwards = broken = 0
    for image in images:
        alive = not image.wrong
        for eps in EPS:
            for number, entry in enumerate(BATTERY.entries):
                if entry.control_sample and eps != headline:
                    continue
                row = rows.setdefault((entry.title, eps), dict.fromkeys(("tried", "broke", "forwards", "backwards"), 0))
                if not alive:
                    continue
                breaks = number == image.attack and eps >= image.eps
                steps = {"fgsm": 1, "pgd": image.step if breaks else 7, "random-noise": 0}[entry.attack]
                asked = {"fgsm": 1, "pgd": steps, "random-noise": 3}[entry.attack] + VERIFIER_FORWARDS
                for name, value in (("tried", 1), ("broke", breaks), ("forwards", asked), ("backwards", steps)):
                    row[name] += value
                forwards, backwards = forwards + asked, backwards + steps
                if breaks:
                    alive, broken = False, broken + 1
    results = []
    for entry in BATTERY.entries:
        for eps in EPS:
            if (entry.title, eps) in rows:
                settings = entry.method.settings(entry.settings)
                told = rows[entry.title, eps]
                results.append(AttackResult(name=entry.title, attack=entry.attack, settings=settings, eps=eps, **told))
    return PassCount(forwards, backwards), results, broken


def request(images: float, battery: Battery = BATTERY, headline: float = 0.2) -> BatteryRequest:
    return BatteryRequest(battery, EPS, headline, 0.1, images, (1, 8, 8), "linf")


@given(fates(), st.sampled_from(EPS), st.integers(1, 5))
def test_images_that_fare_alike_cost_what_a_walk_from_image_to_image_counts(
    images: list[Fate], headline: float, times: int
) -> None:
    spent, rows, broken = walked(images, headline)
    outcomes = BatteryOutcomes(len(images), sum(not image.wrong for image in images), tuple(rows), unseen=0.0)
    expected = expected_battery_passes(request(times * len(images), headline=headline), outcomes)
    assert expected is not None
    passes, lost = expected
    assert passes == PassCount(times * spent.forwards, times * spent.backwards)
    assert lost == pytest.approx(times * broken)


@given(st.lists(fates(), min_size=2, max_size=4))
def test_samples_of_one_battery_join_to_the_whole(parts: list[list[Fate]]) -> None:
    def outcomes(images: list[Fate]) -> BatteryOutcomes:
        right = sum(not image.wrong for image in images)
        return BatteryOutcomes(len(images), right, tuple(walked(images, 0.2)[1]), unseen=0.0)

    every = [image for part in parts for image in part]
    joined = BatteryOutcomes.joined([outcomes(part) for part in parts])
    assert expected_battery_passes(request(50), joined) == expected_battery_passes(request(50), outcomes(every))


def test_survivors_pay_an_attack_that_was_never_seen_in_full() -> None:
    images = [Fate(False, None, 0.1, 1), Fate(False, 0, 0.1, 1), Fate(True, None, 0.1, 1)]
    rows = tuple(row for row in walked(images, 0.2)[1] if row.attack == "fgsm")
    outcomes = BatteryOutcomes(3, 2, rows, unseen=0.0)
    only_fgsm, both = (custom_battery([AttackSpec(name) for name in names]) for names in (["fgsm"], ["fgsm", "pgd"]))
    few, more = (expected_battery_passes(request(3, battery), outcomes) for battery in (only_fgsm, both))
    steps = both.entries[1].method.defaults["steps"]
    assert few is not None and more is not None
    assert (more[0] - few[0]).backwards == len(EPS) * steps, "one survivor, at each eps"


def test_what_a_sample_never_showed_is_not_taken_to_be_impossible() -> None:
    images = [Fate(False, 0, 0.1, 1)] * 8
    rows = tuple(walked(images, 0.2)[1])
    sure, unsure = (
        expected_battery_passes(request(1000), BatteryOutcomes(8, 8, rows, unseen=unseen)) for unseen in (0.0, 0.1)
    )
    assert sure is not None and unsure is not None
    assert sure[1] == 1000 > unsure[1] > 980 and unsure[0].backwards > sure[0].backwards


@pytest.mark.parametrize("hardened", [False, True])
@pytest.mark.parametrize("battery", ["quick", "standard", "full"])
def test_what_is_usual_lies_below_the_most(battery: str, hardened: bool) -> None:
    chosen = battery_named(battery)
    eps = (0.0125, 0.025, 0.05, 0.1, 0.2)
    asked = BatteryRequest(chosen, eps, 0.1, 0.1, 500, (1, 28, 28), "linf")
    expected = expected_battery_passes(asked, BatteryOutcomes.usual(hardened=hardened))
    most = most_battery_passes(chosen, len(eps), 500, (1, 28, 28))
    assert expected is not None and most is not None
    assert 0 < expected[0].backwards < 500 * most.backwards and expected[0].forwards < 500 * most.forwards
    assert 0 < expected[1] < 500


def test_a_hardened_model_costs_more_than_a_standard_one() -> None:
    asked = BatteryRequest(battery_named("standard"), (0.0125, 0.1), 0.1, 0.1, 500, (1, 28, 28), "linf")
    standard, hardened = (
        expected_battery_passes(asked, BatteryOutcomes.usual(hardened=hardened)) for hardened in (False, True)
    )
    assert standard is not None and hardened is not None and standard[0].backwards < hardened[0].backwards


def test_a_real_battery_costs_what_its_own_rows_say(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    eps = (0.01, 0.05, 0.2)
    result = run_battery(cnn_model, cnn_batch, "linf", eps, battery="quick", headline=0.05)
    outcomes = BatteryOutcomes(len(cnn_batch), result.rows[0].survivors, result.rows, unseen=0.0)
    asked = BatteryRequest(battery_named("quick"), eps, 0.05, 0.05, len(cnn_batch), cnn_model.input_shape, "linf")
    expected = expected_battery_passes(asked, outcomes)
    assert expected is not None
    rows = sum((row.passes for row in result.rows), PassCount())
    assert abs(expected[0].forwards - rows.forwards) <= 1 and abs(expected[0].backwards - rows.backwards) <= 1
    whole = expected[0] + before_and_after(len(cnn_batch), expected[1], 0)
    assert result.passes.forwards / 2 < whole.forwards < 2 * result.passes.forwards
    most = most_battery_passes(battery_named("quick"), len(eps), len(cnn_batch), cnn_model.input_shape)
    assert most is not None and result.passes.forwards <= len(cnn_batch) * most.forwards
    assert result.passes.backwards <= len(cnn_batch) * most.backwards
    assert torch.equal(cnn_batch.labels, cnn_model.predictions(cnn_batch.images))
