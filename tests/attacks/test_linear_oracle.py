"""On a linear model the distance to the boundary is known: an attack crosses when it can, and never when it cannot."""

from __future__ import annotations

import pytest
import torch
from attack_settings import ON_LINEAR, ORACLE, REACH
from torch import Tensor

from audit.adversarial.verify import verify
from audit.core.registry import Method
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
STRONG = [case for case in ON_LINEAR if not case.values[0].facts.get("control")]


GAP = 0.4
"""What the two logits differ by on every image, so that all share one distance a norm."""


def weight_of(model: ModelUnderTest) -> tuple[Tensor, Tensor]:
    """w and b of the boundary w.x + b = 0, float64."""
    layer = model.net[1]
    return (layer.weight[1] - layer.weight[0]).double(), (layer.bias[1] - layer.bias[0]).double()


def exact_distance(model: ModelUnderTest, norm: str) -> float:
    """|w.x + b| over the dual norm of w: the images lie so far inside the box that it plays no part."""
    return GAP / float(torch.linalg.vector_norm(weight_of(model)[0], DUAL[norm]))


@pytest.fixture
def inner_batch(linear_model: ModelUnderTest) -> Batch:
    """Images near grey, on both sides of the boundary, each moved along w until its logits differ by GAP."""
    weight, bias = weight_of(linear_model)
    images = 0.5 + 0.04 * torch.randn(16, 36, generator=torch.Generator().manual_seed(5)).double()
    side = torch.tensor([1.0, -1.0]).double().repeat(8)
    images += ((side * GAP - images @ weight - bias) / weight.square().sum())[:, None] * weight
    assert float((images - 0.5).abs().max()) + exact_distance(linear_model, "l1") * 1.25 < 0.5
    return Batch(images.float().view(16, 1, 6, 6), (side > 0).long(), tuple(f"inner/{i}" for i in range(16)))


def broken_at(factor: float, method: Method, norm: str, model: ModelUnderTest, batch: Batch) -> Tensor:
    """Which images break at `factor` times their exact distance."""
    threat = ThreatModel(norm, factor * exact_distance(model, norm))
    draws = Generators.of(batch.ids, seed=0, purpose="oracle", device="cpu")
    proposals = method.function(model, batch, threat, draws, **method.settings(ORACLE.get(method.name)))
    return verify(model, batch, proposals, threat).broken


@pytest.mark.parametrize(("method", "norm"), STRONG)
def test_attack_crosses_a_linear_boundary_at_a_quarter_more_than_the_distance(
    method: Method, norm: str, linear_model: ModelUnderTest, inner_batch: Batch
) -> None:
    factor = REACH.get((method.name, norm), 1.25)
    assert broken_at(factor, method, norm, linear_model, inner_batch).all()


@pytest.mark.parametrize(("method", "norm"), ON_LINEAR)
def test_attack_never_crosses_a_linear_boundary_beyond_its_reach(
    method: Method, norm: str, linear_model: ModelUnderTest, inner_batch: Batch
) -> None:
    assert not broken_at(0.8, method, norm, linear_model, inner_batch).any()
