"""Deletion and insertion on a model whose curves are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.core.seeding import Generators
from audit.metrics.deletion_insertion import deletion_area, insertion_area, removal_curves
from audit.metrics.pixel_ranking import blurred_copy, centre_map, control_order, edge_map, order_of
from audit.models.under_test import ModelUnderTest


class OnePixel(nn.Module):
    """Logit 1 is the pixel (2, 3); logit 0 is 0."""

    def forward(self, images: Tensor) -> Tensor:
        pixel = images[:, 0, 2, 3]
        return torch.stack([torch.zeros_like(pixel), pixel], 1)


@pytest.fixture
def model() -> ModelUnderTest:
    return ModelUnderTest(OnePixel(), classes=("off", "on"), input_shape=(1, 5, 5), device="cpu")


@pytest.fixture
def generators() -> Generators:
    return Generators.of(["a", "b"], seed=0, purpose="test", device="cpu")


IMAGES = torch.ones(2, 1, 5, 5)
ON = torch.tensor([1, 1])


def curves_of(model: ModelUnderTest, order: Tensor, mode: str, steps: int = 25) -> Tensor:
    return removal_curves(
        model,
        IMAGES,
        {"it": order},
        targets=ON,
        fill=torch.zeros_like(IMAGES),
        mode=mode,  # type: ignore[arg-type]
        steps=steps,
        output="logit",
    )["it"]


@pytest.mark.parametrize("place", [0, 7, 24])
def test_curve_falls_and_rises_exactly_where_the_pixel_stands(model: ModelUnderTest, place: int) -> None:
    rest = [pixel for pixel in range(25) if pixel != 13]
    order = torch.tensor([[*rest[:place], 13, *rest[place:]]] * 2)
    deleted = curves_of(model, order, "deletion")
    assert deleted[0].tolist() == [1.0] * (place + 1) + [0.0] * (25 - place)
    assert deletion_area(deleted).tolist() == pytest.approx([(place + 0.5) / 25] * 2)
    inserted = curves_of(model, order, "insertion")
    assert torch.equal(inserted, 1 - deleted)
    assert insertion_area(inserted).tolist() == pytest.approx([1 - (place + 0.5) / 25] * 2)


def test_ends_are_forwarded_once_for_all_orders(model: ModelUnderTest, generators: Generators) -> None:
    orders = {str(i): control_order("random", IMAGES, generators.fork(i)) for i in range(3)}
    with model.count() as spent:
        removal_curves(model, IMAGES, orders, targets=ON, fill=IMAGES * 0, mode="deletion", steps=5)
    assert spent.forwards == 2 * (2 + 3 * 4)


def test_uneven_steps_remove_every_pixel_once(model: ModelUnderTest) -> None:
    order = torch.arange(25).repeat(2, 1)
    curve = curves_of(model, order, "deletion", steps=7)
    bounds = torch.linspace(0, 25, 8).round()
    assert curve[0].tolist() == [float(bound <= 13) for bound in bounds]


def test_order_follows_the_values_and_breaks_ties_by_the_generator(generators: Generators) -> None:
    values = torch.zeros(2, 1, 5, 5)
    values[:, 0, 4, 4] = 2
    values[:, 0, 0, 1] = 1
    order = order_of(values, generators)
    assert order[:, :2].tolist() == [[24, 1], [24, 1]]
    assert sorted(order[0].tolist()) == list(range(25))
    assert order[0].tolist() != order[1].tolist()
    assert torch.equal(order, order_of(values, generators))


def test_controls_rank_the_centre_the_edges_and_chance(generators: Generators) -> None:
    assert control_order("centre", IMAGES, generators)[:, 0].tolist() == [12, 12]
    assert float(centre_map(IMAGES)[0, 0, 2, 2]) == 0
    step = torch.zeros(2, 1, 5, 5)
    step[..., 3:] = 1
    edges = edge_map(step)[0, 0]
    assert edges[:, 2:4].min() > 0
    assert edges[:, :2].max() == edges[:, 4].max() == 0
    assert control_order("random", IMAGES, generators)[0].tolist() != list(range(25))
    assert blurred_copy(step).std() < step.std()
