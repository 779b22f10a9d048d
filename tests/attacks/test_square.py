"""Square in l2 and l1: within the ball whatever the budget, and more than noise of the same size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from audit.adversarial.verify import verify
from audit.attacks.random_noise import random_noise
from audit.attacks.square import fixed_window, pyramid, pyramid_start, square
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

PYRAMIDAL: list[Any] = ["l2", "l1"]


def draws_of(batch: Batch) -> Generators:
    return Generators.of(batch.ids, seed=0, purpose="square", device="cpu")


@pytest.mark.parametrize("norm", PYRAMIDAL)
def test_a_pyramid_has_norm_one_and_two_sides(norm: Any) -> None:
    draws = Generators.of(["a", "b", "c"], seed=0, purpose="p", device="cpu")
    window = fixed_window(slice(2, 9), slice(3, 10), 3, 12, 12, torch.device("cpu"))
    drawn = pyramid(window, draws, norm)
    assert torch.allclose(norms(drawn, norm), torch.ones(3), atol=1e-5)
    assert (drawn.flatten(1).amax(1) > 0).all() and (drawn.flatten(1).amin(1) < 0).all()
    assert not drawn[:, ~window.inside[0]].any()


@pytest.mark.parametrize("norm", PYRAMIDAL)
def test_it_spends_all_of_its_budget_and_no_more(norm: Any) -> None:
    origin = torch.full((2, 1, 20, 20), 0.5)
    threat = ThreatModel(norm, 0.4)
    draws = Generators.of(["a", "b"], seed=0, purpose="p", device="cpu")
    spent = threat.distance(pyramid_start(origin, threat, draws), origin)
    assert torch.allclose(spent, torch.full((2,), 0.4, dtype=torch.float64), rtol=1e-4)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.6), ("l1", 6.0)])
def test_it_breaks_more_than_noise_of_the_same_size(norm: Any, eps: float, cnn_model: ModelUnderTest) -> None:
    images = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(4))
    batch = Batch(images, cnn_model.predictions(images), tuple(f"q{i}" for i in range(60)))
    threat = ThreatModel(norm, eps)
    ours = verify(cnn_model, batch, square(cnn_model, batch, threat, draws_of(batch), queries=100), threat)
    noise = verify(cnn_model, batch, random_noise(cnn_model, batch, threat, draws_of(batch), draws=100), threat)
    assert not ours.faults.any() and ours.broken.sum() > noise.broken.sum() + 5
