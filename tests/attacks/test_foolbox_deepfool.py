from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch

from audit.attacks.deepfool import deepfool
from audit.core.errors import DataError, NotApplicable
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

HUGE = {"l2": 100.0, "linf": 1.0}


def run(model: ModelUnderTest, batch: Batch, threat: ThreatModel) -> torch.Tensor:
    generators = Generators.of(batch.ids, seed=0, purpose="deepfool", device="cpu")
    return deepfool(model, batch, threat, generators)


@pytest.fixture
def inner_batch(linear_model: ModelUnderTest) -> Batch:
    """Images far enough from the box's faces for the closed form to hold."""
    images = 0.5 + 0.1 * (torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(5)) - 0.5)
    return Batch(images, linear_model.predictions(images), tuple(str(i) for i in range(12)))


def exact_distance(model: ModelUnderTest, images: torch.Tensor, norm: str) -> torch.Tensor:
    layer = model.net[1]
    weight = layer.weight[1] - layer.weight[0]
    margin = (images.flatten(1) @ weight + layer.bias[1] - layer.bias[0]).abs()
    return margin / (weight.norm() if norm == "l2" else weight.abs().sum())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_linear_model_deepfool_finds_the_exact_distance(linear_model, inner_batch, norm) -> None:
    threat = ThreatModel(norm, HUGE[norm])
    found = run(linear_model, inner_batch, threat)
    exact = exact_distance(linear_model, inner_batch.images, norm)
    ratio = threat.distance(found, inner_batch.images) / exact
    assert (linear_model.predictions(found) != inner_batch.labels).all()
    # foolbox adds 1e-4 to each step, which shows where the image lies next to the boundary
    assert (ratio >= 1).all() and (ratio <= 1.03 + 2.5e-4 / exact).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_within_too_small_a_ball_nothing_crosses_and_nothing_leaves(linear_model, inner_batch, norm) -> None:
    exact = exact_distance(linear_model, inner_batch.images, norm)
    threat = ThreatModel(norm, float(0.8 * exact.min()))
    found = run(linear_model, inner_batch, threat)
    assert threat.allows(found, inner_batch.images).all()
    assert (linear_model.predictions(found) == inner_batch.labels).all()


def test_a_target_is_refused_rather_than_ignored(cnn_model, cnn_batch) -> None:
    mask = torch.zeros(10, 4, dtype=torch.bool)
    mask[torch.arange(10), (cnn_batch.labels + 1) % 4] = True
    targeted = Batch(cnn_batch.images, cnn_batch.labels, cnn_batch.ids, mask)
    with pytest.raises(NotApplicable, match="untargeted"):
        run(cnn_model, targeted, ThreatModel("l2", 1.0))


def test_an_unknown_norm_is_not_applicable(cnn_model, cnn_batch) -> None:
    with pytest.raises(NotApplicable, match="l1"):
        run(cnn_model, cnn_batch, ThreatModel("l1", 1.0))


def test_images_outside_the_box_are_refused_with_a_sentence(cnn_model, cnn_batch) -> None:
    wrong = Batch(cnn_batch.images * 255, cnn_batch.labels, cnn_batch.ids)
    with pytest.raises(DataError, match="255"):
        run(cnn_model, wrong, ThreatModel("l2", 1.0))


def test_the_answer_depends_neither_on_batch_size_nor_on_order(cnn_model, cnn_batch) -> None:
    threat = ThreatModel("l2", 2.0)
    whole = run(cnn_model, cnn_batch, threat)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    cnn_model.layout.batch_size = 3
    shuffled = run(cnn_model, cnn_batch.select(order), threat)
    torch.testing.assert_close(shuffled, whole[order], atol=1e-5, rtol=0)


def test_global_randomness_and_logging_are_left_as_found(cnn_model, cnn_batch) -> None:
    root = logging.getLogger()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), list(root.handlers)
    run(cnn_model, cnn_batch, ThreatModel("l2", 2.0))
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate() and states[3] == root.handlers


def test_it_works_under_no_grad_and_with_another_default_device(cnn_model, cnn_batch) -> None:
    expected = run(cnn_model, cnn_batch, ThreatModel("l2", 2.0))
    generators = Generators.of(cnn_batch.ids, seed=0, purpose="deepfool", device="cpu")
    with torch.device("meta"), torch.no_grad():
        found = deepfool(cnn_model, cnn_batch, ThreatModel("l2", 2.0), generators)
    assert torch.equal(found, expected)


def test_passes_are_counted(cnn_model, cnn_batch) -> None:
    with cnn_model.count() as spent:
        run(cnn_model, cnn_batch, ThreatModel("l2", 2.0))
    assert spent.forwards > 20 and spent.backwards > 10


def test_an_empty_batch_gives_no_proposals(cnn_model, cnn_batch) -> None:
    none = cnn_batch.select(torch.arange(0))
    assert run(cnn_model, none, ThreatModel("l2", 2.0)).shape == (0, 1, 12, 12)
