"""One projected step, and the two directions it can take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audit.core.ascent import projected_step, steepest_ascent
from audit.core.threat import NORMS, ThreatModel, norms

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


def noise(seed: int) -> Tensor:
    return torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", DUAL)
def test_the_unconstrained_direction_attains_the_dual_norm(norm: Any) -> None:
    gradient = noise(0) - 0.5
    step = steepest_ascent(norm, gradient, gradient, "unconstrained")
    assert torch.allclose(norms(step, norm), torch.ones(8))
    assert torch.allclose((step * gradient).flatten(1).sum(1), norms(gradient, DUAL[norm]))  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", NORMS)
def test_inside_the_box_the_box_aware_direction_has_length_one_and_rises(norm: Any) -> None:
    gradient = noise(0) - 0.5
    step = steepest_ascent(norm, gradient, torch.full_like(gradient, 0.5))
    assert torch.allclose(norms(step, norm), torch.ones(8))
    assert ((step * gradient).flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_box_aware_direction_spends_nothing_on_pixels_pushed_out_of_the_box(norm: Any) -> None:
    gradient, images = noise(0) - 0.5, noise(1).round()
    step = steepest_ascent(norm, gradient, images)
    outwards = (gradient.sign() > 0) & (images == 1) | (gradient.sign() < 0) & (images == 0)
    assert outwards.any() and (step[outwards] == 0).all() and torch.allclose(norms(step, norm), torch.ones(8))
    wasted = steepest_ascent(norm, gradient, images, "unconstrained")
    assert (wasted[outwards] != 0).any()


@pytest.mark.parametrize("norm", NORMS)
def test_the_box_aware_direction_counts_nan_as_zero(norm: Any) -> None:
    gradient = noise(0)
    gradient[0, 0, 0, 0] = torch.nan
    assert steepest_ascent(norm, gradient, noise(1)).isfinite().all()


def test_the_unconstrained_l2_direction_lets_nan_through() -> None:
    gradient = torch.full((1, 1, 2, 2), torch.nan)
    assert steepest_ascent("l2", gradient, gradient, "unconstrained").isnan().all()


@pytest.mark.parametrize("direction", ["box-aware", "unconstrained"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_the_direction_and_then_the_projection(norm: Any, direction: Any) -> None:
    """The slow twin: the formula written out."""
    threat, origin, gradient = ThreatModel(norm, 0.3), noise(1), noise(2) - 0.5
    images = threat.project(noise(3), origin)
    expected = threat.project(images + 0.2 * steepest_ascent(norm, gradient, images, direction), origin)
    assert torch.equal(projected_step(images, origin, gradient, threat, 0.2, direction=direction), expected)


def test_without_projection_a_step_leaves_the_ball_and_not_the_box() -> None:
    threat, origin, gradient = ThreatModel("linf", 0.1), noise(1), noise(2) - 0.5
    moved = projected_step(origin, origin, gradient, threat, 0.5, project=False)
    assert not threat.allows(moved, origin).any() and bool(((moved >= 0) & (moved <= 1)).all())


def test_each_image_may_have_a_step_of_its_own() -> None:
    threat, origin, gradient = ThreatModel("linf", 1.0), torch.full((2, 1, 2, 2), 0.5), torch.ones(2, 1, 2, 2)
    moved = projected_step(origin, origin, gradient, threat, torch.tensor([0.1, 0.2]).view(2, 1, 1, 1))
    assert torch.allclose(moved.amax((1, 2, 3)), torch.tensor([0.6, 0.7]))
