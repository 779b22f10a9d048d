from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from torch import nn

from audit.adversarial.decision_based import starting_points
from audit.adversarial.foolbox_adapter import goal_of, run_foolbox
from audit.attacks.carlini_wagner import carlini_wagner
from audit.attacks.ddn import ddn
from audit.attacks.hopskipjump import hopskipjump
from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


def generators(batch: Batch, seed: int = 0) -> Generators:
    return Generators.of(batch.ids, seed=seed, purpose="test", device="cpu")


def test_examples_on_which_carlini_and_wagner_fails_come_back_clean_not_black(cnn_model, cnn_batch) -> None:
    threat = ThreatModel("l2", 10.0)
    found = carlini_wagner(
        cnn_model, cnn_batch, threat, generators(cnn_batch), binary_search_steps=1, steps=1, initial_const=1e-6
    )
    unbroken = cnn_model.predictions(found) == cnn_batch.labels
    assert unbroken.any()
    assert torch.equal(found[unbroken], cnn_batch.images[unbroken])


def test_a_goal_is_read_from_its_mask() -> None:
    labels = torch.tensor([0, 1])
    any_but = torch.tensor([[False, True, True], [True, False, True]])
    one = torch.tensor([[False, True, False], [False, False, True]])
    some = torch.tensor([[False, True, True], [False, False, True]])
    assert [goal_of(mask, labels) for mask in (any_but, one, some)] == ["untargeted", "targeted", "mask"]


def test_a_gradient_attack_refuses_a_mask_and_a_decision_attack_honours_it(cnn_model, cnn_batch) -> None:
    away = torch.stack([(cnn_batch.labels + k) % 4 for k in (1, 2)], 1)
    mask = torch.zeros(10, 4, dtype=torch.bool).scatter_(1, away, True)
    masked = Batch(cnn_batch.images, cnn_batch.labels, cnn_batch.ids, mask)
    with pytest.raises(NotApplicable, match="mask"):
        ddn(cnn_model, masked, ThreatModel("l2", 5.0), generators(masked))
    found = hopskipjump(cnn_model, masked, ThreatModel("l2", 12.0), generators(masked), steps=2, first_queries=20)
    changed = (found != masked.images).flatten(1).any(1)
    assert changed.any()
    assert mask.gather(1, cnn_model.predictions(found)[:, None])[changed].all()


def test_other_seeds_give_other_draws_and_no_global_generator_is_touched(cnn_model, cnn_batch) -> None:
    part, threat = cnn_batch.select(torch.arange(3)), ThreatModel("l2", 12.0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    handlers = list(logging.getLogger().handlers)
    one, other = (
        hopskipjump(cnn_model, part, threat, generators(part, seed), steps=2, first_queries=20) for seed in (0, 1)
    )
    assert not torch.equal(one, other)
    assert torch.equal(states[0], torch.get_rng_state()) and states[2] == random.getstate()
    assert (states[1] == np.random.get_state()[1]).all() and handlers == logging.getLogger().handlers


def test_hopskipjump_comes_closer_with_more_queries_and_counts_them(cnn_model, cnn_batch) -> None:
    part, threat = cnn_batch.select(torch.arange(4)), ThreatModel("l2", 12.0)
    sizes, costs = [], []
    for steps in (1, 8):
        with cnn_model.count() as spent:
            found = hopskipjump(cnn_model, part, threat, generators(part), steps=steps, first_queries=50)
        sizes.append(threat.distance(found, part.images).mean().item())
        costs.append(spent.forwards)
    assert sizes[1] < 0.8 * sizes[0] and costs[1] > 4 * costs[0]


def test_starting_points_are_broken_images_nearer_than_the_noise_they_come_from(cnn_model, cnn_batch) -> None:
    starts, found = starting_points(cnn_model, cnn_batch, generators(cnn_batch))
    assert found.any()
    assert (cnn_model.predictions(starts)[found] != cnn_batch.labels[found]).all()
    far, _ = starting_points(cnn_model, cnn_batch, generators(cnn_batch), bisections=0)
    near = [(points - cnn_batch.images).flatten(1).norm(dim=1)[found] for points in (starts, far)]
    assert (near[0] < near[1]).all()


def test_where_no_start_is_found_the_image_is_left_alone(cnn_batch) -> None:
    stubborn = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    with torch.no_grad():
        stubborn[1].weight.zero_()
        stubborn[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    model = ModelUnderTest(stubborn, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    batch = Batch(cnn_batch.images, torch.zeros(10, dtype=torch.int64), cnn_batch.ids)
    assert not starting_points(model, batch, generators(batch), tries=3)[1].any()
    assert torch.equal(hopskipjump(model, batch, ThreatModel("l2", 5.0), generators(batch)), batch.images)


def test_an_example_broken_already_costs_no_attack_and_stays_as_it_is(cnn_model, cnn_batch) -> None:
    wrong = Batch(cnn_batch.images, (cnn_batch.labels + 1) % 4, cnn_batch.ids)
    with cnn_model.count() as spent:
        found = hopskipjump(cnn_model, wrong, ThreatModel("l2", 5.0), generators(wrong))
    assert torch.equal(found, wrong.images) and spent.forwards < 20 * len(wrong)


def test_an_attack_whose_draws_are_shared_is_refused_in_batches(cnn_model, cnn_batch) -> None:
    """The boundary attack draws one direction for the whole batch."""
    starts, found = starting_points(cnn_model, cnn_batch, generators(cnn_batch))
    part = cnn_batch.select(found)
    with pytest.raises(TypeError, match="one by one"):
        run_foolbox(
            {"l2": "BoundaryAttack"},
            cnn_model,
            part,
            ThreatModel("l2", 5.0),
            generators(part),
            starts=starts[found],
            steps=2,
        )
