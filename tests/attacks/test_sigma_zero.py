"""On a linear model the fewest values to change are known: the steepest first, each to the face of the box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import audit
from audit.adversarial.verify import verify
from audit.attacks.sigma_zero import sigma_zero
from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def batch(linear_model: ModelUnderTest) -> Batch:
    images = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    return Batch(images, linear_model.predictions(images), tuple(f"l0/{i}" for i in range(24)))


def fewest(model: ModelUnderTest, batch: Batch) -> Tensor:
    """The least number of values whose largest gains together close the gap, int64 (N,)."""
    layer = model.net[1]
    weight = (layer.weight[1] - layer.weight[0]).double()
    side = torch.where(batch.labels == 1, -1.0, 1.0).double()
    towards = side[:, None] * weight
    room = torch.where(towards > 0, 1 - batch.images.flatten(1), batch.images.flatten(1)).double()
    gains = (towards.abs() * room).sort(dim=1, descending=True).values.cumsum(1)
    gap = model.logits(batch.images).double().diff(dim=1).abs()
    return (gains <= gap).sum(1) + 1


def test_it_finds_the_fewest_values_on_a_linear_model(linear_model: ModelUnderTest, batch: Batch) -> None:
    exact = fewest(linear_model, batch)
    assert exact.max() >= 3
    threat = ThreatModel("l0", 36)
    draws = Generators.of(batch.ids, seed=0, purpose="oracle", device="cpu")
    verdicts = verify(linear_model, batch, sigma_zero(linear_model, batch, threat, draws, steps=200), threat)
    assert verdicts.broken.all()
    assert (verdicts.distance >= exact).all()
    assert (verdicts.distance - exact).mean() < 0.1 and (verdicts.distance <= exact + 1).all()
    untried = verify(linear_model, batch, sigma_zero(linear_model, batch, threat, draws, steps=12, trials=0), threat)
    tried = verify(linear_model, batch, sigma_zero(linear_model, batch, threat, draws, steps=12), threat)
    assert (tried.distance <= untried.distance).all() and (tried.distance < untried.distance).any()


def test_it_keeps_to_a_budget_below_which_nothing_breaks(linear_model: ModelUnderTest, batch: Batch) -> None:
    exact = fewest(linear_model, batch)
    for image in (exact >= 2).nonzero().flatten().tolist()[:4]:
        one = batch.select(torch.tensor([image]))
        for budget, breaks in ((int(exact[image]) - 1, False), (int(exact[image]) + 1, True)):
            threat = audit.ThreatModel("l0", budget)
            attacked = audit.attack(linear_model, one.images, one.labels, threat, method="sigma-zero", steps=200)
            assert bool(attacked.broken) is breaks and not attacked.faults.any() and attacked.distance <= budget


def test_what_has_no_meaning_in_l0_says_so(linear_model: ModelUnderTest, batch: Batch) -> None:
    threat = audit.ThreatModel("l0", 3)
    with pytest.raises(UsageError, match="No attack of this battery exists for l0"):
        audit.robustness(linear_model, batch.images, batch.labels, threat)
    with pytest.raises(UsageError, match="not for l0"):
        audit.certify(linear_model, batch.images, batch.labels, threat)
    with pytest.raises(UsageError, match="No model is trained against l0"):
        audit.harden(linear_model, batch.images, batch.labels, threat, epochs=1)
    curve = audit.robustness_curve(
        linear_model, batch.images, batch.labels, "l0", [1, 2, 4, 36], attacks=["sigma-zero"]
    )
    assert (curve.minimal_eps >= fewest(linear_model, batch)).all() and not curve.robust[-1].any()
