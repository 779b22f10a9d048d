"""A failed adversarial can never be counted, and an attack that leaves the ball is found out."""

from __future__ import annotations

import pytest
import torch

from audit.adversarial.verify import verify
from audit.core.errors import AuditError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

THREAT = ThreatModel("linf", 0.1)


@pytest.fixture
def near(linear_model: ModelUnderTest) -> Batch:
    """Images about 0.02 in linf from the boundary."""
    weight = linear_model.net[1].weight
    direction = (weight[1] - weight[0]).sign().view(1, 1, 6, 6)
    images = torch.full((3, 1, 6, 6), 0.5) + 0.02 * direction
    return Batch(images, linear_model.predictions(images), ("a", "b", "c"))


def towards(model: ModelUnderTest, batch: Batch, size: float) -> torch.Tensor:
    weight = model.net[1].weight
    return (batch.images - size * (weight[1] - weight[0]).sign().view(1, 1, 6, 6)).detach()


def test_a_true_adversarial_is_broken_with_its_distance(linear_model: ModelUnderTest, near: Batch) -> None:
    verdicts = verify(linear_model, near, towards(linear_model, near, 0.05), THREAT)
    assert verdicts.broken.all() and not verdicts.faults.any() and verdicts.survives_rounding.all()
    assert verdicts.distance.dtype == torch.float64
    assert torch.allclose(verdicts.distance, torch.full((3,), 0.05, dtype=torch.float64), atol=1e-6)


def test_clean_images_offered_as_adversarial_are_not_counted(linear_model: ModelUnderTest, near: Batch) -> None:
    verdicts = verify(linear_model, near, near.images, THREAT)
    assert not verdicts.broken.any() and not verdicts.survives_rounding.any()


def test_leaving_the_ball_is_a_fault_and_judged_after_projection(linear_model: ModelUnderTest, near: Batch) -> None:
    tight = ThreatModel("linf", 0.01)
    verdicts = verify(linear_model, near, towards(linear_model, near, 0.3), tight)
    assert verdicts.faults.all()
    assert not verdicts.broken.any(), "from 0.02 away nothing breaks within 0.01"
    assert (verdicts.distance <= 0.01 + 1e-6).all()


def test_leaving_the_box_is_a_fault(linear_model: ModelUnderTest, near: Batch) -> None:
    bright = Batch(near.images.clamp(min=0.97), near.labels, near.ids)
    verdicts = verify(linear_model, bright, bright.images + 0.08, THREAT)
    assert verdicts.faults.all() and (verdicts.images <= 1).all()


def test_values_that_are_not_numbers_are_faults_and_never_broken(linear_model: ModelUnderTest, near: Batch) -> None:
    broken = near.images.clone()
    broken[1] = float("nan")
    verdicts = verify(linear_model, near, broken, THREAT)
    assert verdicts.faults.tolist() == [False, True, False]
    assert torch.equal(verdicts.images[1], near.images[1]) and not verdicts.broken.any()


def test_a_perturbation_finer_than_a_grey_level_does_not_survive_rounding(linear_model: ModelUnderTest) -> None:
    """At 128/255 everywhere the model is within half a grey level of its boundary; rounding goes back there."""
    grey = torch.full((1, 1, 6, 6), 128 / 255)
    batch = Batch(grey, linear_model.predictions(grey), ("a",))
    side = 1 if batch.labels.item() == 1 else -1
    finer = towards(linear_model, batch, side * 0.4 / 255)
    assert linear_model.predictions(finer) != batch.labels
    verdicts = verify(linear_model, batch, finer, THREAT)
    assert verdicts.broken.all() and not verdicts.survives_rounding.any()


def test_a_wrong_number_of_proposals_is_refused(linear_model: ModelUnderTest, near: Batch) -> None:
    with pytest.raises(AuditError, match="one proposal an example"):
        verify(linear_model, near, near.images[:2], THREAT)
