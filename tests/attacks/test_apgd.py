"""Auto-PGD's schedule, its step sizes, and leaving hopeless examples."""

from __future__ import annotations

import pytest
import torch
from attack_models import tiny_net

from audit.adversarial.verify import Verdicts, verify
from audit.attacks.apgd import apgd_dlr, checkpoints
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, PassCount
from audit.models.under_test import ModelUnderTest

THREAT = ThreatModel("linf", 0.06)


@pytest.fixture
def model() -> ModelUnderTest:
    return ModelUnderTest(tiny_net(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def many(model: ModelUnderTest) -> Batch:
    images = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    return Batch(images, model.predictions(images), tuple(f"m{i}" for i in range(60)))


def run(model: ModelUnderTest, batch: Batch, *, give_up: bool) -> tuple[Verdicts, PassCount]:
    draws = Generators.of(batch.ids, seed=0, purpose="auto", device="cpu")
    with model.count() as spent:
        proposals = apgd_dlr(model, batch, THREAT, draws, steps=24, give_up=give_up)
    return verify(model, batch, proposals, THREAT), spent.passes


def test_the_checkpoints_are_the_published_ones() -> None:
    """For 100 iterations: 22, then 19, 16, 13, 10, 7 steps later, then every 6."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_hopeless_examples_leave_early_and_no_success_is_lost(model: ModelUnderTest, many: Batch) -> None:
    patient, all_passes = run(model, many, give_up=False)
    hasty, fewer_passes = run(model, many, give_up=True)
    assert 5 < int(patient.broken.sum()) < 55, "both kinds of example are needed"
    assert not (patient.broken & ~hasty.broken).any()
    assert fewer_passes.backwards < 0.6 * all_passes.backwards


def test_leaving_early_is_decided_for_each_example_alone(model: ModelUnderTest, many: Batch) -> None:
    together = run(model, many, give_up=True)[1]
    apart = sum(run(model, many.select(torch.tensor([i])), give_up=True)[1].backwards for i in range(60))
    assert together.backwards == pytest.approx(apart, rel=0.02)
