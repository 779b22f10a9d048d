import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel, norms
from audit.core.threat_format import NORMS, Norm, format_eps, format_threat, parse_eps

norm_names = st.sampled_from(NORMS)
sizes = st.floats(0.01, 1.0)


def images(seed: int, count: int = 8) -> torch.Tensor:
    return torch.rand(count, 2, 5, 5, generator=torch.Generator().manual_seed(seed))


@given(norm=norm_names, eps=sizes, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_projections_and_random_starts_are_allowed(norm: str, eps: float, seed: int) -> None:
    threat = ThreatModel(norm, eps)  # type: ignore[arg-type]
    origin, far = images(seed), images(seed + 1)
    generators = Generators.of(map(str, range(8)), seed=seed, purpose="t", device="cpu")
    assert threat.allows(threat.project(far, origin), origin).all()
    assert threat.allows(threat.random_start(origin, generators), origin).all()


@given(norm=norm_names, eps=sizes, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_no_point_of_the_ball_is_nearer_than_the_projection(norm: str, eps: float, seed: int) -> None:
    threat = ThreatModel(norm, eps)  # type: ignore[arg-type]
    delta = images(seed) * 4 - 2
    projected = threat.project_perturbation(delta)
    other = threat.project_perturbation(images(seed + 1) * 4 - 2)
    distance = norms(delta - projected, "l2")
    assert (norms(projected, threat.norm) <= eps * (1 + 1e-5)).all()
    assert (distance <= norms(delta - other, "l2") + 1e-4).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_inside_the_ball_is_its_own_projection(norm: str) -> None:
    threat = ThreatModel(norm, 50 if norm == "l0" else 1.0)  # type: ignore[arg-type]
    delta = images(0) * 0.01
    assert torch.allclose(threat.project_perturbation(delta), delta)


def test_random_starts_fill_the_l2_ball_evenly() -> None:
    threat = ThreatModel("l2", 0.5)
    middle = torch.full((4000, 1, 2, 1), 0.5)
    generators = Generators.of(map(str, range(4000)), seed=0, purpose="t", device="cpu")
    radius = threat.distance(threat.random_start(middle, generators), middle)
    # In two dimensions half of the area lies within eps / sqrt(2).
    assert abs((radius < 0.5 / math.sqrt(2)).double().mean() - 0.5) < 0.03


def test_what_leaves_the_ball_or_the_box_is_not_allowed() -> None:
    threat = ThreatModel("linf", 0.1)
    origin = torch.full((3, 1, 2, 2), 0.95)
    given_images = origin + torch.tensor([0.049, 0.051, -0.1001]).view(3, 1, 1, 1)
    assert threat.allows(given_images, origin).tolist() == [True, False, False]
    assert not threat.allows(torch.full_like(origin, math.nan), origin).any()


@pytest.mark.parametrize(
    ("norm", "eps"), [("linf", 8), ("linf", -0.1), ("l2", math.nan), ("l3", 0.1), ("l1", math.inf)]
)
def test_a_wrong_threat_model_is_refused_with_a_sentence(norm: str, eps: float) -> None:
    with pytest.raises(UsageError, match=r"linf|\[0,"):
        ThreatModel(norm, eps)  # type: ignore[arg-type]


def test_eps_is_read_and_written_as_people_do() -> None:
    assert parse_eps("8/255") == pytest.approx(8 / 255)
    assert parse_eps("0.1") == 0.1
    assert parse_eps(" 2.5 / 255 ") == 2.5 / 255
    assert format_eps(8 / 255) == "8/255"
    assert str(ThreatModel("l2", 0.5)) == "l2 0.5"


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("linf", 8 / 255, "linf 8/255"),
        ("linf", 1.0, "linf 1"),
        ("linf", 0.2, "linf 0.2"),
        ("l2", 1.0, "l2 1"),
        ("l2", 128 / 255, "l2 0.501961"),
        ("l1", 12.0, "l1 12"),
        ("l0", 24, "l0 24"),
    ],
)
def test_grey_levels_measure_linf_alone_and_the_report_writes_what_the_threat_model_does(
    norm: Norm, eps: float, text: str
) -> None:
    assert str(ThreatModel(norm, eps)) == format_threat(norm, eps) == text


@pytest.mark.parametrize("text", ["eight", "8/", "8/0", "8/255/2", "nan", "inf"])
def test_an_eps_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="8/255"):
        parse_eps(text)


def test_l0_counts_the_values_that_differ_and_keeps_the_largest() -> None:
    threat = ThreatModel("l0", 2)
    origin = torch.full((2, 1, 2, 2), 0.5)
    far = torch.tensor([[[[0.5, 0.9], [0.4, 0.0]]], [[[0.5, 0.5], [0.5, 0.6]]]])
    assert threat.distance(far, origin).tolist() == [3, 1] and threat.allows(far, origin).tolist() == [False, True]
    assert threat.project(far, origin).flatten(1).tolist() == [
        pytest.approx([0.5, 0.9, 0.5, 0.0]),
        pytest.approx([0.5, 0.5, 0.5, 0.6]),
    ]


def test_random_starts_of_l0_move_that_many_values() -> None:
    origin = images(3)
    generators = Generators.of(map(str, range(8)), seed=0, purpose="t", device="cpu")
    assert ThreatModel("l0", 7).distance(ThreatModel("l0", 7).random_start(origin, generators), origin).eq(7).all()


def test_an_l1_projection_of_many_values_is_allowed() -> None:
    """A running sum of 150,528 values rounds, and so does storing them: neither makes a projection a fault."""
    origin = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    threat = ThreatModel("l1", 30.0)
    moved = origin + 1e-3 * torch.randn(origin.shape, generator=torch.Generator().manual_seed(1))
    projected = threat.project_perturbation(moved - origin)
    sizes = projected.double().abs().flatten(1).sum(1) / 30
    assert float(sizes.max()) < 1 + 1e-6
    assert float(sizes.min()) > 1 - 1e-4
    assert bool(threat.allows(threat.project(moved, origin), origin).all())
    assert not bool(threat.allows(origin + (moved - origin) * 1.01 * 30 / 120, origin).any())
