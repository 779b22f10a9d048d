"""On a tiny ReLU net integer programming gives the smallest linf perturbation: APGD finds it, nothing beats it."""

from __future__ import annotations

import pytest
import torch
from attack_settings import ORACLE
from exact_minimum import exact_linf, images_near_the_boundary, tiny_relu_model

from audit.adversarial.verify import verify
from audit.core.registry import find, methods
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def relu_model() -> ModelUnderTest:
    return tiny_relu_model()


@pytest.fixture
def relu_batch(relu_model: ModelUnderTest) -> Batch:
    return images_near_the_boundary(relu_model)


def broken(name: str, model: ModelUnderTest, batch: Batch, factor: float, settings: dict[str, int]) -> list[bool]:
    """Each image attacked at `factor` times its own exact distance."""
    method, answers = find("attack", name), []
    for i in range(len(batch)):
        one = batch.select(torch.tensor([i]))
        exact = exact_linf(model, one.images.flatten().double().numpy(), int(one.labels))
        threat = ThreatModel("linf", factor * exact)
        draws = Generators.of(one.ids, seed=0, purpose="exact", device="cpu")
        proposals = method.function(model, one, threat, draws, **method.settings(settings))
        answers.append(bool(verify(model, one, proposals, threat).broken))
    return answers


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr"])
def test_apgd_comes_within_one_percent_of_the_exact_minimum(
    name: str, relu_model: ModelUnderTest, relu_batch: Batch
) -> None:
    assert all(broken(name, relu_model, relu_batch, 1.01, {"steps": 60, "restarts": 5}))


@pytest.mark.parametrize(
    "name", [method.name for method in methods("attack") if "linf" in method.facts["norms"] and not method.wraps]
)
def test_no_attack_goes_below_the_exact_minimum(name: str, relu_model: ModelUnderTest, relu_batch: Batch) -> None:
    assert not any(broken(name, relu_model, relu_batch, 0.99, ORACLE.get(name, {})))
