"""Integrated gradients spend their steps where the output bends, and say when they do not close."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torch import Tensor, nn

from audit.attributions.integrated_gradients import IntegrationPath
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest


class Curve(nn.Module):
    """Two classes; the logit of the second is `curve` of the image's mean, which runs over [0, 1] along the line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        place = images.flatten(1).mean(1)
        height = {
            "step": 10 * torch.sigmoid(400 * (place - 0.513)),
            "noise": place + torch.sin(20_000 * place),
        }[self.name]
        return torch.stack([torch.zeros_like(height), height], 1)


def asked(curve: str, **settings: object) -> tuple[dict[str, float], int, Tensor]:
    """Quality, gradients taken, and the map of a white image against black."""
    model = ModelUnderTest(Curve(curve), classes=("off", "on"), input_shape=(1, 4, 4), device="cpu")
    found = explain_images(
        model, torch.ones(1, 1, 4, 4), method="integrated-gradients", targets=1, baseline=0.0, **settings
    )
    assert found.attributions is not None
    return {name: float(value) for name, value in found.quality.items()}, found.passes.backwards, found.attributions


def test_steps_go_where_the_output_bends() -> None:
    quality, gradients, found = asked("step")
    even = asked("step", steps=gradients - 1, max_steps=gradients - 1)[0]
    assert quality["closed"] == 1 and quality["completeness_error"] <= 0.01 and quality["path_error"] <= 0.1
    assert gradients == quality["steps"] + 1 < 64
    assert even["path_error"] > 3 * quality["path_error"]
    assert torch.allclose(found, torch.full_like(found, 10 / 16), rtol=0.01)


def test_misses_that_cancel_do_not_close_a_line() -> None:
    """The output rises by 1; the first half says 0.3 too much of it, the second as much too little."""
    line = IntegrationPath()
    line.add(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0]), np.array([2.2, 1.0, -0.2]), torch.zeros(3, 1, 1, 1))
    assert line.errors == pytest.approx([0.3, -0.3])
    assert not line.is_complete(0.01) and line.is_complete(0.1)
    assert line.refine(0.01, 8).tolist() == [0.25]


def test_no_steps_are_spent_on_what_rounding_alone_moves() -> None:
    line, places = IntegrationPath(), np.linspace(0, 1, 33)
    outputs = 10 + 1e-6 * np.sin(40 * places)
    line.add(places, outputs, np.zeros(33), torch.zeros(33, 1, 1, 1))
    assert abs(float(line.errors.sum())) > 0.5 * abs(line.gap) > 0
    assert line.is_complete(0.01)


def test_what_never_closes_stops_at_the_most_steps_and_says_so() -> None:
    quality, gradients, _ = asked("noise", steps=8, max_steps=40)
    assert gradients == 41
    assert quality["steps"] == 40 and quality["closed"] == 0 and quality["path_error"] > 0.1


def test_the_mean_gradient_is_the_trapezoid_rule_over_places_in_any_order() -> None:
    line, places = IntegrationPath(), np.array([0.0, 0.5, 1.0, 0.25, 0.125])
    values = torch.tensor([3.0, -1.0, 2.0, 5.0, 7.0]).view(-1, 1, 1, 1)
    for part in (slice(0, 3), slice(3, 4), slice(4, 5)):
        line.add(places[part], places[part], places[part], values[part])
    rising = np.argsort(places)
    assert float(line.mean_gradient()) == pytest.approx(
        trapezoid(values.numpy().ravel()[rising], places[rising]), abs=1e-6
    )
    assert line.positions.tolist() == sorted(places.tolist())
