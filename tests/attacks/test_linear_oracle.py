"""On a linear model the distance to the boundary is known: an attack crosses when it can, and never when it cannot."""

from __future__ import annotations

import pytest
import torch
from attack_settings import ORACLE
from torch import Tensor

from audit.models.under_test import ModelUnderTest
from audit.passes.verify import verify
from audit.registry import Method, methods
from audit.seeding import Generators
from audit.threat import ThreatModel
from audit.types import Batch

DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
BOUNDED = [
    pytest.param(method, norm, id=f"{method.name}-{norm}")
    for method in methods("attack")
    for norm in method.facts["norms"]
]
STRONG = [case for case in BOUNDED if not case.values[0].facts.get("control")]


def exact_distance(model: ModelUnderTest, batch: Batch, norm: str) -> Tensor:
    """|f(x)| over the dual norm of the weights: the images lie so far inside the box that it plays no part."""
    layer = model.net[1]
    weight = (layer.weight[1] - layer.weight[0]).double()
    bias = (layer.bias[1] - layer.bias[0]).double()
    return (batch.images.flatten(1).double() @ weight + bias).abs() / torch.linalg.vector_norm(weight, DUAL[norm])


@pytest.fixture
def inner_batch(linear_model: ModelUnderTest) -> Batch:
    images = 0.5 + 0.04 * torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    labels = linear_model.predictions(images)
    return Batch(images, labels, tuple(f"inner/{i}" for i in range(16)))


def broken_at(factor: float, method: Method, norm: str, model: ModelUnderTest, batch: Batch) -> list[bool]:
    """Each image attacked alone, at `factor` times its own exact distance."""
    broken = []
    for i, distance in enumerate(exact_distance(model, batch, norm).tolist()):
        one = batch.select(torch.tensor([i]))
        threat = ThreatModel(norm, factor * distance)
        draws = Generators.of(one.ids, seed=0, purpose="oracle", device="cpu")
        proposals = method.function(model, one, threat, draws, **method.settings(ORACLE.get(method.name)))
        broken.append(bool(verify(model, one, proposals, threat).broken[0]))
    return broken


@pytest.mark.parametrize(("method", "norm"), STRONG)
def test_attack_crosses_a_linear_boundary_at_a_quarter_more_than_the_distance(
    method: Method, norm: str, linear_model: ModelUnderTest, inner_batch: Batch
) -> None:
    assert all(broken_at(1.25, method, norm, linear_model, inner_batch))


@pytest.mark.parametrize(("method", "norm"), BOUNDED)
def test_attack_never_crosses_a_linear_boundary_beyond_its_reach(
    method: Method, norm: str, linear_model: ModelUnderTest, inner_batch: Batch
) -> None:
    assert not any(broken_at(0.8, method, norm, linear_model, inner_batch))
