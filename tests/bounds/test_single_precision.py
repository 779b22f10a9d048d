"""Bounds in float32 hold as those in float64 do: below them, below every sampled output, and below rounding itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import NETS, SHAPE, small_net
from torch import Tensor

from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import interval_values, lower_bound
from audit.bounds.region import Region
from audit.bounds.rules import RULES
from audit.bounds.sweeps import Sweeps
from audit.bounds.tighten import tightened
from audit.bounds.trace import trace

EPS = {"linf": 0.06, "l2": 0.4, "l1": 1.0}
GRAPHS: dict[str, tuple[BoundGraph, BoundGraph]] = {}


def graphs(name: str) -> tuple[BoundGraph, BoundGraph]:
    """The graph of a net in float64 and in float32."""
    if name not in GRAPHS:
        single, double = (trace(small_net(name), SHAPE, RULES, dtype) for dtype in (torch.float32, torch.float64))
        GRAPHS[name] = double, single
    return GRAPHS[name]


def images(count: int, seed: int) -> Tensor:
    drawn = torch.rand(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return ((drawn - 0.5) * 1.4 + 0.5).clamp(0, 1)


def margins(count: int) -> Tensor:
    eye = torch.eye(3, dtype=torch.float64)
    return (eye[0] - eye[1:])[None].expand(count, 2, 3)


@torch.no_grad()
def bounds(graph: BoundGraph, region: Region, **options: Any) -> Tensor:
    values = interval_values(graph, region)
    functions = margins(len(region.low)).to(graph.dtype)
    return lower_bound(graph, values, region, graph.output, functions, **options).bound


@given(st.integers(0, 10_000), st.sampled_from(sorted(NETS)), st.sampled_from(sorted(EPS)))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_bounds_in_float32_are_below_those_of_exact_arithmetic_and_little_below(
    seed: int, name: str, norm: Any
) -> None:
    double, single = graphs(name)
    region = Region.ball(images(2, seed), norm, EPS[norm])
    with torch.no_grad():
        values = interval_values(double, region, rounding=False)
        for boxes_only in (False, True):
            exact = lower_bound(
                double, values, region, double.output, margins(2), boxes_only=boxes_only, guarded=False
            ).bound
            for graph in (double, single):
                bound = bounds(graph, region, boxes_only=boxes_only)
                assert bound.dtype == torch.float64
                assert bool((bound <= exact + 1e-12).all())
                assert bool((bound >= exact - 2e-3 * exact.abs().clamp(min=2)).all())


@pytest.mark.parametrize("name", NETS)
def test_on_a_single_point_rounding_alone_decides_and_the_bound_stays_below_the_exact_value(name: str) -> None:
    """The relaxations are exact there: without the costs of rounding half of these bounds would be too high."""
    double, single = graphs(name)
    x = images(60, 3).float().double()
    exact = (margins(60) @ double.evaluate(x)[double.output][:, :, None]).squeeze(2)
    near = bounds(single, Region.box(x, x))
    assert bool((near <= exact).all())
    assert bool((exact - near < 1e-2).all())
    values = interval_values(single, Region.box(x, x))
    for box, value in zip(values.boxes.values(), double.evaluate(x), strict=True):
        assert bool((box.low.double() <= value).all() and (box.high.double() >= value).all())


@pytest.mark.parametrize("name", ["two layers", "max pool", "overlapping pool", "residual"])
def test_boxes_tightened_in_float32_hold_those_of_float64(name: str) -> None:
    double, single = graphs(name)
    region = Region.ball(images(1, 5), "linf", 0.06)
    with torch.no_grad():
        exact, near = (tightened(g, interval_values(g, region), region) for g in (double, single))
    for position in double.unbounded:
        assert bool((near.boxes[position].low <= exact.boxes[position].low + 1e-12).all())
        assert bool((near.boxes[position].high >= exact.boxes[position].high - 1e-12).all())
        assert torch.allclose(near.boxes[position].low.double(), exact.boxes[position].low, atol=1e-3)


@pytest.mark.parametrize("name", ["max pool", "overlapping pool", "dilated pool", "pool with a rest"])
@pytest.mark.parametrize("norm", EPS)
def test_windows_taken_at_once_give_the_bounds_of_their_relus(name: str, norm: Any) -> None:
    """`keep` sends the pass through every ReLU; so does a slope of its own at each, which the lines take up."""
    double, _ = graphs(name)
    region = Region.ball(images(3, 1), norm, EPS[norm])
    at_once, one_by_one = bounds(double, region), bounds(double, region, keep=True)
    assert torch.allclose(at_once, one_by_one, atol=1e-12)
    generator = torch.Generator().manual_seed(2)
    slopes = {
        i: torch.rand(3, 2, *double.nodes[i].shape, generator=generator, dtype=torch.float64)
        for i in double.activations
    }
    at_once, one_by_one = (bounds(double, region, slopes=slopes, keep=keep) for keep in (False, True))
    assert torch.allclose(at_once, one_by_one, atol=1e-12)


def test_float64_is_asked_where_the_rounding_of_float32_decides_and_nowhere_else() -> None:
    double, single = graphs("max pool")
    region = Region.ball(images(4, 7), "linf", 0.01)
    exact, near = bounds(double, region), bounds(single, region)
    row = int((exact.amin(1) - near.amin(1)).argmax())
    tie = float((exact[row].min() + near[row].min()) / 2)
    sweeps = Sweeps(double, single, tie)
    before = double.meter.passes.backwards
    answer = sweeps.bounds(sweeps.values(region), region, margins(4))
    asked = (double.meter.passes.backwards - before) // 2
    assert 1 <= asked < 4
    assert float(answer[row].min()) > tie > float(near[row].min())
    assert bool((answer <= exact + 1e-12).all())
