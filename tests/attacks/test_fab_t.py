"""The projection onto a hyperplane within the box, against slow solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from audit.attacks.fab_t import fab_t, project_onto_hyperplane
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel, norms
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

SIZE = 7


def case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, normals and offsets that the box can reach."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(6, 1, 1, SIZE, generator=generator)
    normals = torch.randn(6, 1, 1, SIZE, generator=generator)
    normals[0, 0, 0, :2] = 0
    reached = torch.rand(6, 1, 1, SIZE, generator=generator)
    return points, normals, (normals * reached).flatten(1).sum(1)


def smallest(point: np.ndarray, normal: np.ndarray, offset: float, norm: Norm) -> float:
    """The least norm of a step to the plane within the box, by a general solver."""
    missing, low, high = offset - normal @ point, -point, 1 - point
    if norm == "l2":
        found = minimize(
            lambda d: d @ d,
            np.zeros(SIZE),
            jac=lambda d: 2 * d,
            bounds=list(zip(low, high, strict=True)),
            constraints={"type": "eq", "fun": lambda d: normal @ d - missing, "jac": lambda d: normal},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        return float(np.sqrt(found.fun))
    extra = 1 if norm == "linf" else SIZE
    share = np.ones((SIZE, 1)) if norm == "linf" else np.eye(SIZE)
    found = linprog(
        np.concatenate([np.zeros(SIZE), np.ones(extra)]),
        A_ub=np.block([[np.eye(SIZE), -share], [-np.eye(SIZE), -share]]),
        b_ub=np.zeros(2 * SIZE),
        A_eq=np.concatenate([normal, np.zeros(extra)])[None],
        b_eq=[missing],
        bounds=[*zip(low, high, strict=True), *[(0, None)] * extra],
    )
    return float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", range(4))
def test_the_step_reaches_the_plane_in_the_box_at_the_least_norm(norm: Norm, seed: int) -> None:
    points, normals, offsets = case(seed)
    step = project_onto_hyperplane(points, normals, offsets, norm)
    arrived = points + step
    assert torch.allclose((normals * arrived).flatten(1).sum(1), offsets, atol=1e-4)
    assert (arrived >= -1e-6).all() and (arrived <= 1 + 1e-6).all()
    for i, size in enumerate(norms(step, norm).tolist()):
        plain = (points[i].flatten().double().numpy(), normals[i].flatten().double().numpy(), float(offsets[i]))
        assert size == pytest.approx(smallest(*plain, norm), abs=2e-4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_beyond_the_boxs_reach_the_step_goes_to_its_corner(norm: Norm) -> None:
    points, normals, _ = case(9)
    arrived = points + project_onto_hyperplane(points, normals, torch.full((6,), 1e3), norm)
    moved = normals != 0
    assert torch.allclose(arrived[moved], (normals > 0).float()[moved], atol=1e-5)


def test_without_stopping_the_nearest_of_all_classes_is_returned() -> None:
    """On a linear model whose likeliest other class is three times as far as the next."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [0.3, 0, 0, 0], [0, 2.0, 0, 0]]))
        net[1].bias.copy_(torch.tensor([0.0, -0.15 - 0.12, -1.0 - 0.25]))
    model = ModelUnderTest(net, classes="abc", input_shape=(1, 2, 2), device="cpu")
    batch = Batch(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), ("x",))
    threat, draws = ThreatModel("l2", 2.0), Generators.of(["x"], seed=0, purpose="t", device="cpu")
    far, near = (
        float(threat.distance(fab_t(model, batch, threat, draws, steps=20, targets=targets, stop=False), batch.images))
        for targets in (1, 2)
    )
    assert far == pytest.approx(0.12 / 0.3, rel=0.06) and near == pytest.approx(0.25 / 2, rel=0.06)
