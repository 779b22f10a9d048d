"""Models that draw random numbers: their mean is known, and a battery that follows it meets the closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from audit.adversarial.eot import EOT_SAMPLES, expectation_over_transformation, logit_noise
from audit.adversarial.run_battery import run_battery
from audit.core.types import Batch
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest

WEIGHT = torch.randn(36, generator=torch.Generator().manual_seed(3))
CLASSES = ("no", "yes")


class Noisy(nn.Module):
    """A net behind a random front, and before a random back."""

    def __init__(self, front: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        rows = torch.stack([-WEIGHT, WEIGHT]) / 2
        shift = float((WEIGHT * 0.5).sum()) / 2
        self.net, self.front, self.back = nn.Linear(36, 2), front, back
        self.net.load_state_dict({"weight": rows, "bias": torch.tensor([shift, -shift])})

    def forward(self, images: Tensor) -> Tensor:
        return self.back(self.net(self.front(images).flatten(1)))


def same(values: Tensor) -> Tensor:
    return values


def halved(images: Tensor) -> Tensor:
    """Each pixel's distance from grey doubled or nil: the mean is the image."""
    return 0.5 + (images - 0.5) * 2 * (torch.rand_like(images) < 0.5)


def shaken(size: float) -> Callable[[Tensor], Tensor]:
    return lambda logits: logits + size * torch.randn_like(logits)


def model_of(front: Callable[[Tensor], Tensor] = same, back: Callable[[Tensor], Tensor] = same) -> ModelUnderTest:
    return ModelUnderTest(Noisy(front, back), classes=CLASSES, input_shape=(1, 6, 6), device="cpu")


def batch_at(gap: float) -> Batch:
    """Images whose logits differ by `gap`, on both sides of the boundary."""
    images = 0.5 + 0.04 * torch.randn(16, 36, generator=torch.Generator().manual_seed(5))
    side = torch.tensor([1.0, -1.0]).repeat(8)
    images += ((side * gap - (images - 0.5) @ WEIGHT) / WEIGHT.square().sum())[:, None] * WEIGHT
    return Batch(images.view(16, 1, 6, 6), (side > 0).long(), tuple(f"e{i}" for i in range(16)))


def test_the_noise_of_a_mean_falls_with_the_root_of_the_draws() -> None:
    model, batch = model_of(back=shaken(1.0)), batch_at(1.0)
    exact = model_of().logits(batch.images)
    many = Batch(batch.images.repeat(50, 1, 1, 1), batch.labels.repeat(50), tuple(map(str, range(800))))
    with expectation_over_transformation(model, 25, seed=0):
        error = (model.logits(many.images) - exact.repeat(50, 1)).std()
    assert float(error) == pytest.approx(1.0 / 5, rel=0.1)


def test_the_gradient_of_the_mean_is_the_mean_gradient() -> None:
    """The input loses half of its pixels each time; the expected gradient of the margin is the weight."""
    model, batch = model_of(front=halved), batch_at(1.0)
    goal = batch.target_mask(2)

    def error() -> float:
        found = model.loss_gradient(batch.images, goal, margin).gradient.flatten(1)
        signed = found * (1 - 2.0 * batch.labels)[:, None]
        return float((signed - WEIGHT).square().mean().sqrt() / WEIGHT.square().mean().sqrt())

    with expectation_over_transformation(model, 100, seed=0), model.count() as spent:
        assert error() == pytest.approx(0.1, rel=0.2)
    assert (spent.passes.forwards, spent.passes.backwards) == (1600, 1600), "each of the draws is counted"
    torch.manual_seed(0)
    assert error() == pytest.approx(1.0, rel=0.2), "one draw has the error of one draw"


def test_a_battery_on_a_random_model_meets_the_distance_of_its_mean() -> None:
    model, batch = model_of(back=shaken(0.02)), batch_at(0.4)
    distance = 0.4 / float(WEIGHT.abs().sum())
    outcome = run_battery(model, batch, "linf", [0.6 * distance, 1.25 * distance])
    assert outcome.survived[0].all() and not outcome.survived[1].any()
    assert outcome.draws == EOT_SAMPLES and outcome.inconclusive == ()
    assert any("mean of 20 forwards" in str(note) for note in outcome.notes)


def test_verdicts_that_turn_when_asked_again_are_inconclusive() -> None:
    outcome = run_battery(model_of(back=shaken(1.0)), batch_at(0.1), "linf", [0.0001])
    assert any("asked again" in str(doubt) for doubt in outcome.inconclusive)


def test_the_seed_decides_what_the_model_draws_and_nothing_else_is_drawn() -> None:
    model, batch = model_of(back=shaken(0.3)), batch_at(0.4)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with expectation_over_transformation(model, 4, seed=1):
        first = model.logits(batch.images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    with expectation_over_transformation(model, 4, seed=1):
        assert torch.equal(model.logits(batch.images), first)
    assert model.module.draws == 1


def test_a_deterministic_model_is_asked_once() -> None:
    model, batch = model_of(), batch_at(0.4)
    assert logit_noise(model, batch.images, 0) == 0.0 and logit_noise(model, batch.images[:0], 0) == 0.0
    outcome = run_battery(model, batch, "linf", [0.01])
    assert outcome.draws == 1 and not any("deterministic" in str(note) for note in outcome.notes)


def test_the_wobble_is_the_same_each_time_it_is_measured() -> None:
    model, batch = model_of(back=shaken(0.3)), batch_at(0.4)
    torch.manual_seed(1)
    first = logit_noise(model, batch.images, 0)
    torch.manual_seed(2)
    assert logit_noise(model, batch.images, 0) == first > 0.1
    assert logit_noise(model, batch.images, 1) != first


def test_large_images_come_in_batches_that_hold_no_more_than_before() -> None:
    model = model_of(back=shaken(0.3))
    before = model.layout.batch_size
    with expectation_over_transformation(model, 20, seed=0):
        assert model.layout.batch_size == before, "small images: as before"
    model.input_shape = (3, 224, 224)
    with expectation_over_transformation(model, 20, seed=0):
        assert model.layout.batch_size == before // 20
        with expectation_over_transformation(model, 20, seed=1):
            pass
        assert model.module.draws == 20, "an inner block gives back what it found"
    assert model.layout.batch_size == before


def test_a_random_models_examples_are_not_moved_to_the_boundary() -> None:
    """There every second question would be answered otherwise, and sound verdicts look fragile."""
    distance = 0.4 / float(WEIGHT.abs().sum())
    found = run_battery(model_of(back=shaken(0.02)), batch_at(0.4), "linf", [1.5 * distance], battery="standard")
    assert found.inconclusive == () and not found.robust.any()
