"""Bounds hold for sampled inputs, agree with slow twins, and each rung is at least as tight as the one below."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import NETS, SHAPE, small_net
from torch import Tensor, nn
from torch.nn import functional as F

from audit.bounds.alpha import optimise
from audit.bounds.cones import cones
from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import Values, interval_values, lower_bound
from audit.bounds.region import Region
from audit.bounds.rules import RULES
from audit.bounds.tighten import tightened
from audit.bounds.trace import trace
from audit.core.errors import NotApplicable

EPS = {"linf": 0.06, "l2": 0.4, "l1": 1.0}


def traced(net: nn.Module) -> BoundGraph:
    return trace(net, SHAPE, RULES, torch.float64)


def images(count: int = 2, seed: int = 0) -> Tensor:
    drawn = torch.rand(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return ((drawn - 0.5) * 1.4 + 0.5).clamp(0, 1)  # Some pixels on the faces of the box.


def samples(region: Region, count: int) -> Tensor:
    """Points of each region, many of them on its edge, (N, count, *shape)."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(region.centre), count, *region.centre.shape[1:])
    if region.norm == "linf":
        share = torch.rand(shape, generator=generator, dtype=torch.float64).round(decimals=0)
        return region.low[:, None] + share * (region.high - region.low)[:, None]
    delta = torch.randn(shape, generator=generator, dtype=torch.float64)
    if region.norm == "l1":
        delta = delta * (torch.rand(shape, generator=generator, dtype=torch.float64) > 0.9)
    order = 2 if region.norm == "l2" else 1
    size = delta.flatten(2).norm(order, dim=2).view(*shape[:2], 1, 1, 1).clamp(min=1e-9)
    return (region.centre[:, None] + delta / size * region.radius).clamp(0, 1)


def margins(count: int) -> Tensor:
    eye = torch.eye(3, dtype=torch.float64)
    return (eye[0] - eye[1:])[None].expand(count, 2, 3)


def tight(graph: BoundGraph, region: Region) -> Values:
    return tightened(graph, interval_values(graph, region), region)


@pytest.mark.parametrize("name", NETS)
def test_the_recorded_graph_is_the_net(name: str) -> None:
    net, graph = small_net(name).double(), traced(small_net(name))
    outputs = graph.evaluate(images(5))[graph.output]
    outputs = outputs.softmax(1) if name == "softmax" else outputs
    assert torch.allclose(outputs, net(images(5)), atol=1e-12)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_graph_of_a_script_is_that_of_the_net_it_was_made_of() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    graph = traced(nn.Sequential(torch.jit.script(net)))  # type: ignore[no-untyped-call]
    assert torch.allclose(graph.evaluate(images(5))[graph.output], net.double()(images(5)), atol=1e-12)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("name", NETS)
def test_no_sampled_input_leaves_a_bound_and_each_rung_is_tighter(name: str, norm: Any) -> None:
    graph = traced(small_net(name))
    region = Region.ball(images(), norm, EPS[norm])
    points = samples(region, 300)
    values = [v.view(2, 300, *v.shape[1:]) for v in graph.evaluate(points.flatten(0, 1))]
    loose, close = interval_values(graph, region), tight(graph, region)
    for position, value in enumerate(values):
        for bounds in (loose, close):
            box = bounds.boxes[position]
            assert bool((value >= box.low[:, None] - 1e-12).all() and (value <= box.high[:, None] + 1e-12).all())
    reached = (margins(2) @ values[graph.output].transpose(1, 2)).amin(2)
    by_boxes = lower_bound(graph, loose, region, graph.output, margins(2), boxes_only=True).bound
    crown = lower_bound(graph, loose, region, graph.output, margins(2)).bound
    tightened_bound = lower_bound(graph, close, region, graph.output, margins(2)).bound
    best = optimise(graph, close, region, margins(2), steps=15).bound
    for bound in (by_boxes, crown, tightened_bound, best):
        assert bool((bound <= reached + 1e-12).all())
    assert bool((best >= tightened_bound - 1e-9).all())
    assert bool((tightened_bound >= crown - 1e-9).all())


@pytest.mark.parametrize("name", ["two layers", "max pool", "overlapping pool", "tanh", "residual"])
@pytest.mark.parametrize("norm", EPS)
def test_rows_shared_by_cones_give_the_bounds_of_rows_of_their_own(
    name: str, norm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, apart = traced(small_net(name)), traced(small_net(name))
    assert any(cones(graph, i) is not None for i in graph.unbounded)
    monkeypatch.setattr("audit.bounds.tighten.cones", lambda g, i: None if g is apart else cones(g, i))
    region = Region.ball(images(), norm, EPS[norm])
    shared, alone = tight(graph, region), tight(apart, region)
    for position in graph.unbounded:
        for a, b in zip(shared.boxes[position], alone.boxes[position], strict=True):
            assert torch.allclose(a, b, atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from(sorted(EPS)))
@settings(max_examples=25, deadline=None)
def test_the_minimum_of_a_linear_function_is_reached_and_never_undercut(seed: int, norm: Any) -> None:
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(2, 3, *SHAPE, generator=generator, dtype=torch.float64)
    region = Region.ball(images(2, seed), norm, EPS[norm])
    low = region.minimum(coefficients)
    at = region.minimiser(coefficients)
    assert torch.allclose((coefficients * at).flatten(2).sum(2), low, atol=1e-6)
    assert bool((at >= -1e-12).all() and (at <= 1 + 1e-12).all())
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    assert float((at - region.centre[:, None]).flatten(2).norm(order, dim=2).max()) <= EPS[norm] * (1 + 1e-9)
    sampled = (coefficients[:, :, None] * samples(region, 200)[:, None]).flatten(3).sum(3)
    assert bool((sampled >= low[:, :, None] - 1e-12).all())


@pytest.mark.parametrize("name", NETS)
def test_float32_in_any_order_stays_within_the_slack(name: str) -> None:
    """The float32 net against the exact one, and again with channels last: never further off than the boxes allow."""
    net, graph = small_net(name), traced(small_net(name))
    x = images(40).float()
    point = Region.box(x.double(), x.double())
    boxes = interval_values(graph, point).boxes[graph.output]
    for inputs in (x, x.contiguous(memory_format=torch.channels_last)):
        outputs = (net[0] if name == "softmax" else net)(inputs).double()
        assert bool((outputs >= boxes.low).all() and (outputs <= boxes.high).all())
    width = float((boxes.high - boxes.low).max())
    assert 0 < width < 1e-2


REFUSED: dict[str, tuple[Any, str]] = {
    "product": (lambda n, x: n.conv(x) * n.conv(x).sigmoid(), "product of two values"),
    "gelu": (lambda n, x: F.gelu(n.conv(x)), "'gelu'"),
    "across images": (lambda n, x: n.conv(x) - n.conv(x).mean(0, keepdim=True), "across images"),
    "branch": (lambda n, x: n.conv(x) if bool(x.sum() > 0) else n.conv(x) * 2, "'sum' across images"),
    "shared memory": (lambda n, x: overwritten(n.conv(x)), "in-place change of shared memory"),
    "softmax inside": (lambda n, x: n.conv(x).flatten(1).softmax(1) * 2, "softmax before its end"),
    "numpy": (lambda n, x: torch.from_numpy(n.conv(x).detach().numpy()), "no operation links"),
}


def overwritten(x: Tensor) -> Tensor:
    first = x[:, :1]
    first.mul_(2)
    return x


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_with_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, words = REFUSED[name]
    monkeypatch.setitem(NETS, name, forward)
    with pytest.raises(NotApplicable, match=words):
        traced(small_net(name))


def test_the_layer_of_an_unknown_operation_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(NotApplicable, match=r"layer '1' \(GELU\) uses 'gelu'"):
        traced(net)
