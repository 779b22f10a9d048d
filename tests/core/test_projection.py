"""The nearest point of ball and box, held against the enumeration of every case of the optimality conditions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from audit.core.threat import Norm, ThreatModel, norms
from tests.pretended_device import ELSEWHERE, PretendedDevice

CASES = [("l1", "cpu"), ("l2", "cpu"), ("l2", "card")]
"""In l2 an accelerator sorts, where the processor goes round until nothing changes."""


def project(threat: ThreatModel, point: Tensor, origin: Tensor, where: str) -> Tensor:
    if where == "cpu":
        return threat.project(point, origin)
    with PretendedDevice() as pretended:
        images, clean = point.to(ELSEWHERE), origin.to(ELSEWHERE)
        projected = threat.project(images, clean)
        assert not pretended.host_reads and not projected.is_cpu
        return projected.cpu()


def nearest(wanted: Tensor, room: Tensor, eps: float, norm: Norm) -> Tensor:
    """By enumeration, in float64: each value is 0, at its room, or moved by the ball's multiplier; the nearest of all
    candidates that lie in ball and box. One row.
    """
    candidates = [wanted.minimum(room), torch.zeros_like(wanted)]
    for case in itertools.product(("none", "all", "some"), repeat=len(wanted)):
        some = torch.tensor([kind == "some" for kind in case])
        fixed = torch.where(torch.tensor([kind == "all" for kind in case]), room, 0.0)
        if not some.any():
            candidates.append(fixed)
        elif norm == "l1":
            shift = (wanted[some].sum() + fixed.sum() - eps) / some.sum()
            candidates.append(torch.where(some, wanted - shift, fixed))
        elif (left := eps**2 - float(fixed.square().sum())) >= 0:
            candidates.append(torch.where(some, wanted * math.sqrt(left) / wanted[some].norm().clamp(min=1e-30), fixed))
    order = 1 if norm == "l1" else 2
    feasible = [
        c for c in candidates if (c >= 0).all() and (c <= room).all() and c.norm(p=order) <= eps * (1 + 1e-12) + 1e-15
    ]
    return min(feasible, key=lambda c: float((c - wanted).norm()))


@pytest.mark.parametrize(("norm", "where"), CASES)
def test_it_is_the_nearest_point_of_ball_and_box(norm: Norm, where: str) -> None:
    draw = torch.Generator().manual_seed(5)
    worst = 0.0
    for trial in range(150 if where == "cpu" else 45):
        origin = torch.rand(5, generator=draw)
        origin[torch.rand(5, generator=draw) < 0.4] = float(trial % 2)  # black and white pixels
        point = origin + torch.randn(5, generator=draw) * (0.1, 0.6, 3.0)[trial % 3]
        eps = (0.05, 0.4, 1.3)[trial // 3 % 3]
        shape = (1, 1, 1, 5)
        found = project(ThreatModel(norm, eps), point.view(shape), origin.view(shape), where).flatten().double()
        delta = (point - origin).double()
        room = torch.where(delta > 0, 1 - origin.double(), origin.double())
        exact = origin.double() + delta.sign() * nearest(delta.abs(), room, eps, norm)
        worst = max(worst, float((found - exact).abs().max()))
    assert worst < 1e-6


@pytest.mark.parametrize(("norm", "where"), CASES)
def test_many_values_agree_with_bisection_in_double_precision(norm: Norm, where: str) -> None:
    eps = 12.0 if norm == "l1" else 1.5
    draw = torch.Generator().manual_seed(1)
    origin = (torch.rand(20, 1, 28, 28, generator=draw) * 3 - 1).clamp(0, 1)
    point = origin + 0.2 * torch.randn(origin.shape, generator=draw)
    delta = (point - origin).double()
    room = torch.where(delta > 0, 1 - origin.double(), origin.double())

    def moved(multiplier: Tensor) -> Tensor:
        wanted, at = delta.abs(), multiplier.view(-1, 1, 1, 1)
        return (wanted - at).clamp(min=0).minimum(room) if norm == "l1" else (wanted / (1 + at)).minimum(room)

    low, high = torch.zeros(20, dtype=torch.float64), torch.full((20,), 100.0, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        too_long = norms(moved(middle), norm) > eps
        low, high = torch.where(too_long, middle, low), torch.where(too_long, high, middle)
    found = project(ThreatModel(norm, eps), point, origin, where)
    assert ((found.double() - origin - delta.sign() * moved(high)).abs() < 2e-6).all()
    assert (ThreatModel(norm, eps).distance(found, origin) > eps * (1 - 1e-5)).all(), "eps is used up"


@pytest.mark.parametrize(("norm", "where"), CASES)
def test_what_lies_in_both_stays_and_not_numbers_come_to_an_end(norm: Norm, where: str) -> None:
    origin = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    inside = (origin + 0.01).clamp(0, 1)
    threat = ThreatModel(norm, 2.0)
    assert torch.allclose(project(threat, inside, origin, where), inside, atol=1e-7)
    assert torch.equal(project(ThreatModel(norm, 0.0), inside, origin, where), origin)
    far = torch.full_like(origin, 1e30)
    assert threat.allows(project(threat, far, origin, where), origin).all()
    assert not project(threat, torch.full_like(origin, math.nan), origin, where).isfinite().any()


@pytest.mark.parametrize(("norm", "where"), CASES)
def test_as_many_values_as_a_photograph_has_are_projected_within_rounding(norm: Norm, where: str) -> None:
    draw = torch.Generator().manual_seed(3)
    origin = (torch.rand(2, 3, 224, 224, generator=draw) * 3 - 1).clamp(0, 1)
    threat = ThreatModel(norm, 30.0)
    found = project(threat, origin + 0.2 * torch.randn(origin.shape, generator=draw), origin, where)
    used = threat.distance(found, origin) / 30
    assert threat.allows(found, origin).all() and float(used.min()) > 1 - 1e-4
