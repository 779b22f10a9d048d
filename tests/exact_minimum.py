"""A tiny ReLU net whose smallest linf perturbation integer programming gives."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

PIXELS, HIDDEN = 9, 8


def noise() -> Tensor:
    return torch.rand(60, 1, 3, 3, generator=torch.Generator().manual_seed(8))


def tiny_relu_model() -> ModelUnderTest:
    """Nine pixels, eight hidden units, two classes that are about as frequent on noise."""
    generator = torch.Generator().manual_seed(21)
    first, second = nn.Linear(PIXELS, HIDDEN), nn.Linear(HIDDEN, 2)
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) / 2)
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
    with torch.no_grad():
        second.bias[0] += net(noise()).diff(dim=1).median()
    return ModelUnderTest(net, classes=("a", "b"), input_shape=(1, 3, 3), device="cpu")


def images_near_the_boundary(relu_model: ModelUnderTest) -> Batch:
    """Five of the images nearest to the boundary: far off, kinks stop an ascent a few percent short."""
    gap = relu_model.logits(noise()).diff(dim=1).abs().flatten()
    images = noise()[gap.argsort()[8:13]]
    return Batch(images, relu_model.predictions(images), tuple(f"r{i}" for i in range(5)))


def exact_linf(model: ModelUnderTest, image: np.ndarray, label: int) -> float:
    """Variables: pixels, hidden units, their on/off switches, the distance. The least distance with a tied output."""
    inner, outer = model.net[1], model.net[3]
    weight, bias = inner.weight.double().numpy(), inner.bias.double().numpy()
    side = 1 if label == 0 else -1
    rise = side * (outer.weight[1] - outer.weight[0]).double().numpy()
    lift = side * float(outer.bias[1] - outer.bias[0])
    big = float(np.abs(weight).sum(1).max() + np.abs(bias).max())
    n, h = PIXELS, HIDDEN
    one, unit, none = np.eye(n), np.eye(h), np.zeros
    rows = [
        (np.hstack([one, none((n, 2 * h)), -np.ones((n, 1))]), -np.inf, image),
        (np.hstack([-one, none((n, 2 * h)), -np.ones((n, 1))]), -np.inf, -image),
        (np.hstack([-weight, unit, none((h, h)), none((h, 1))]), bias, np.inf),
        (np.hstack([-weight, unit, big * unit, none((h, 1))]), -np.inf, bias + big),
        (np.hstack([none((h, n)), unit, -big * unit, none((h, 1))]), -np.inf, 0),
        (np.concatenate([none(n), rise, none(h), [0]])[None], -lift, np.inf),
    ]
    found = milp(
        np.concatenate([none(n + 2 * h), [1]]),
        constraints=[LinearConstraint(*row) for row in rows],
        integrality=np.concatenate([none(n + h), np.ones(h), [0]]),
        bounds=Bounds(0, np.concatenate([np.ones(n), np.full(h, np.inf), np.ones(h), [1]])),
    )
    assert found.success, found.message
    return float(found.fun)
