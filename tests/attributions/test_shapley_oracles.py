"""Shapley values against the definition, written slowly, and against the axioms."""

from __future__ import annotations

from itertools import permutations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.explanation.run import explain_images
from audit.explanation.shapley_exact import every_coalition, shapley_from_table
from audit.explanation.shapley_kernel import constrained_regression, kernel_weights, paired_masks
from audit.models.under_test import ModelUnderTest


def by_permutations(outputs: Tensor, size: int) -> Tensor:
    """The mean marginal contribution over all orders of joining: the definition."""
    values, orders = torch.zeros(size, dtype=torch.float64), list(permutations(range(size)))
    for order in orders:
        code = 0
        for player in order:
            joined = code | (1 << player)
            values[player] += outputs[joined] - outputs[code]
            code = joined
    return values / len(orders)


def random_game(size: int, seed: int) -> Tensor:
    return torch.randn(2**size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_table_formula_is_the_definition(size: int, seed: int) -> None:
    outputs = random_game(size, seed)
    assert torch.allclose(
        shapley_from_table(every_coalition(size), outputs), by_permutations(outputs, size), atol=1e-12
    )


@given(st.integers(2, 10), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_efficiency_dummy_and_symmetry_hold(size: int, seed: int) -> None:
    masks = every_coalition(size)
    weights = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weights[0] = 0
    weights[-1] = weights[1]
    outputs = torch.tanh(masks.double() @ weights)
    values = shapley_from_table(masks, outputs)
    assert abs(float(values.sum() - outputs[-1] + outputs[0])) < 1e-12
    assert abs(float(values[0])) < 1e-12
    assert abs(float(values[-1] - values[1])) < 1e-12


@given(st.integers(3, 9), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_kernel_regression_over_all_coalitions_is_exact(size: int, seed: int) -> None:
    outputs = random_game(size, seed)
    masks = every_coalition(size)
    inner = masks[1:-1]
    values, _ = constrained_regression(
        inner.double(), outputs[1:-1] - outputs[0], kernel_weights(inner.sum(1), size), float(outputs[-1] - outputs[0])
    )
    assert torch.allclose(values, shapley_from_table(masks, outputs), atol=1e-10)


@pytest.mark.parametrize(("size", "budget"), [(7, 40), (8, 60), (13, 500), (40, 1000)])
def test_sampled_masks_are_different_and_paired(size: int, budget: int) -> None:
    generator = Generators.of(["one"], seed=0, purpose="test", device="cpu")
    masks, weights = paired_masks(size, budget, generator)
    rows = {tuple(row) for row in masks.tolist()}
    assert len(rows) == len(masks) == len(weights)
    assert all(tuple(not bit for bit in row) in rows for row in rows)
    assert abs(len(masks) - budget) <= size
    assert bool((weights > 0).all())


def test_sampled_kernel_comes_near_and_its_error_bars_hold() -> None:
    size = 13
    masks = every_coalition(size)
    generator = torch.Generator().manual_seed(2)
    pairs = torch.randn(size, size, dtype=torch.float64, generator=generator) / 4
    shown = masks.double()
    outputs = torch.tanh(((shown @ pairs) * shown).sum(1) / 2)
    exact = shapley_from_table(masks, outputs)
    codes = 2 ** torch.arange(size)
    covered = []
    for seed in range(12):
        chosen, weights = paired_masks(size, 700, Generators.of([str(seed)], seed=0, purpose="t", device="cpu"))
        asked = outputs[(chosen.long() * codes).sum(1)]
        total = float(outputs[-1] - outputs[0])
        values, deviations = constrained_regression(chosen.double(), asked - outputs[0], weights, total)
        errors = deviations.square().sum(0).sqrt()
        assert float((values - exact).norm() / exact.norm()) < 0.15
        covered.append(((values - exact).abs() <= 2 * errors).double().mean())
    assert 0.8 < float(torch.stack(covered).mean()) <= 1


class AndOfCorners(nn.Module):
    """Logit 1 is the product of the means of two corner segments: each deserves half of it."""

    def forward(self, images: Tensor) -> Tensor:
        product = images[:, 0, :2, :3].mean((1, 2)) * images[:, 0, 4:, 3:].mean((1, 2))
        return torch.stack([torch.zeros_like(product), 4 * product], 1)


def test_both_halves_of_a_conjunction_share_equally(quarters: Tensor) -> None:
    model = ModelUnderTest(AndOfCorners(), classes=("off", "on"), input_shape=(1, 6, 6), device="cpu")
    found = explain_images(model, torch.ones(1, 1, 6, 6), method="shap", targets=1, baseline=0.0, segments=quarters)
    expected = torch.zeros(6, 6)
    expected[(quarters == 0) | (quarters == 5)] = 2.0
    assert torch.allclose(found.attributions[0, 0], expected, atol=1e-6)


def test_too_few_samples_and_too_many_segments_are_said(linear: ModelUnderTest, images: Tensor) -> None:
    pixels = torch.arange(36).view(6, 6)
    with pytest.raises(UsageError, match="36 segments"):
        explain_images(linear, images, method="shap", segments=pixels, algorithm="exact")
    with pytest.raises(UsageError, match="at least 74"):
        explain_images(linear, images, method="shap", segments=pixels, algorithm="kernel", samples=20)
