from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.metrics.neural_cleanse import Triggers, anomaly_index, smallest_triggers
from audit.models.under_test import ModelUnderTest

CLASSES, SIZE, PLANTED = 6, 8, 4


class Planted(nn.Module):
    """Looks at the mean of one band of rows for each class; four bright pixels in a corner overrule that."""

    def __init__(self, planted: bool) -> None:
        super().__init__()
        weight = torch.zeros(CLASSES, SIZE, SIZE)
        for label in range(CLASSES):
            weight[label, label : label + 2] = 1.0
        self.weight = nn.Parameter(weight)
        self.planted = planted

    def forward(self, images: Tensor) -> Tensor:
        scores = torch.einsum("nchw,khw->nk", images, self.weight)
        corner = images[:, 0, :2, -2:].sum((1, 2))
        bonus = corner**4 / 6 if self.planted else torch.zeros_like(corner)
        return scores + torch.nn.functional.one_hot(torch.tensor(PLANTED), CLASSES) * bonus[:, None]


def pictures(count: int = 48) -> Tensor:
    drawn = 0.5 * torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    for i in range(count):
        drawn[i, :, i % CLASSES : i % CLASSES + 2] += 0.4
    return drawn.clamp(0, 1)


def under_test(planted: bool) -> ModelUnderTest:
    return ModelUnderTest(
        Planted(planted), classes=[str(k) for k in range(CLASSES)], input_shape=(1, SIZE, SIZE), device="cpu"
    )


def draws(labels: list[int], seed: int = 0) -> Generators:
    return Generators.of([f"class {k}" for k in labels], seed=seed, purpose="test", device="cpu")


@cache
def found(planted: bool) -> Triggers:
    return smallest_triggers(under_test(planted), pictures(), draws(list(range(CLASSES))), steps=200, batch=16)


def test_the_planted_corner_is_found_by_its_class_its_place_and_its_size() -> None:
    triggers = found(True)
    areas = triggers.areas.numpy()
    assert triggers.reached.all() and areas.argmin() == PLANTED
    assert areas[PLANTED] < np.median(areas) / 3 and anomaly_index(areas)[PLANTED] > 2
    mask = triggers.masks[PLANTED]
    assert mask[:2, -2:].sum() > 0.8 * mask.sum()
    assert (triggers.patterns[PLANTED, 0, :2, -2:] > 0.8).all()


def test_without_a_plant_no_class_stands_out() -> None:
    areas = found(False).areas.numpy()
    assert areas.min() > np.median(areas) / 3


def test_a_patch_moves_images_it_was_not_made_on() -> None:
    model, fresh = under_test(True), pictures(96)[48:]
    stamped = found(True).stamped(fresh, PLANTED)
    assert (model.predictions(stamped) == PLANTED).double().mean() > 0.9
    assert stamped.min() >= 0 and stamped.max() <= 1


def test_one_class_is_untouched_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patch is what a search with another seed for every other class gives."""
    keys = draws(list(range(CLASSES))).keys.clone()
    other = draws(list(range(CLASSES)), seed=9).keys.clone()
    other[PLANTED] = keys[PLANTED]
    first = smallest_triggers(under_test(True), pictures(), Generators(keys), steps=20, batch=8)
    second = smallest_triggers(under_test(True), pictures(), Generators(other), steps=20, batch=8)
    torch.testing.assert_close(first.masks[PLANTED], second.masks[PLANTED], rtol=0, atol=1e-6)
    assert not torch.equal(first.masks[0], second.masks[0])


def test_the_cost_is_what_is_announced() -> None:
    model = under_test(False)
    with model.count() as spent:
        smallest_triggers(model, pictures(), draws(list(range(CLASSES))), steps=10, batch=4)
    assert spent.forwards == spent.backwards == 10 * 4 * CLASSES


def test_anomaly_index_is_that_of_the_paper_and_one_sided() -> None:
    areas = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    expected = np.array([2.0, 1.0, 0.0, 0.0, 0.0]) / 1.4826
    np.testing.assert_allclose(anomaly_index(areas), expected)


def test_a_thousand_classes_are_declined_with_the_price() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 101))
    model = ModelUnderTest(net, classes=[str(k) for k in range(101)], input_shape=(1, 4, 4), device="cpu")
    with pytest.raises(NotApplicable, match="up to 100 classes"):
        smallest_triggers(model, torch.rand(4, 1, 4, 4), draws(list(range(101))))
