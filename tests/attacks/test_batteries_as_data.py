"""Batteries are data: their entries exist, and focusing on the nearest images does what it says."""

from __future__ import annotations

import pytest
import torch
from attack_models import tiny_net

from audit.adversarial.batteries import BATTERIES
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.chosen_images import chosen_images
from audit.adversarial.run_battery import run_battery
from audit.core.registry import find
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def model() -> ModelUnderTest:
    return ModelUnderTest(tiny_net(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def batch(model: ModelUnderTest) -> Batch:
    images = torch.rand(20, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    return Batch(images, model.predictions(images), tuple(f"d{i}" for i in range(20)))


@pytest.mark.parametrize("battery", BATTERIES.values(), ids=BATTERIES)
def test_every_entry_is_a_registered_attack_with_valid_settings(battery: Battery) -> None:
    for entry in battery.entries:
        settings = find("attack", entry.attack).settings(entry.settings)
        assert settings | dict(entry.settings) == settings
    titles = [entry.title for entry in battery.entries]
    assert len(set(titles)) == len(titles) and "clean" not in titles


def test_autoattack_is_the_published_protocol() -> None:
    assert [(entry.attack, dict(entry.settings)) for entry in BATTERIES["autoattack"].entries] == [
        ("apgd-ce", {"steps": 100}),
        ("apgd-t", {"steps": 100, "targets": 9}),
        ("fab-t", {"steps": 100, "targets": 9}),
        ("square", {"queries": 5000}),
    ]
    assert all(entry.hardest_fraction == 1 and not entry.control_sample for entry in BATTERIES["autoattack"].entries)


def test_the_closest_are_those_with_the_largest_margin() -> None:
    ids, margin, index = [str(i) for i in range(20)], torch.arange(20.0).flip(0), torch.tensor([1, 4, 8, 15])
    half, all_of_them = (AttackSpec("pgd", hardest_fraction=share) for share in (0.5, 1.0))
    assert chosen_images(half, index, margin, ids, 0).tolist() == [1, 4]
    assert chosen_images(all_of_them, index, margin, ids, 0).tolist() == [1, 4, 8, 15]
    assert chosen_images(half, index[:0], margin, ids, 0).tolist() == []


def test_a_focused_entry_and_a_control_see_only_their_share(model: ModelUnderTest, batch: Batch) -> None:
    battery = Battery(
        "focused",
        "",
        (
            AttackSpec("fgsm"),
            AttackSpec("pgd", {"steps": 3}, hardest_fraction=0.25),
            AttackSpec("random-noise", {"draws": 2}, control_sample=3),
        ),
    )
    rows = run_battery(model, batch, "linf", [0.005, 0.01], battery=battery).rows
    focused = [row for row in rows if row.name == "pgd"]
    assert [row.tried for row in focused] == [max(1, round(0.25 * row.survivors)) for row in focused]
    (control,) = [row for row in rows if row.name == "random-noise"]
    assert (control.eps, control.tried) == (0.01, 3)
