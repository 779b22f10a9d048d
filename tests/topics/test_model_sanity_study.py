from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from bare_context import bare_context
from broken_models import BROKEN, held_out, trained, wrap
from torch import nn

from audit.adversarial.thresholds import rows_of
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.metrics.gradient_masking import derivative_error, linear_distance, linearise
from audit.models.under_test import ModelUnderTest
from audit.topics.model_sanity.study import model_sanity

CELL = Cell("model-sanity", "honest-evaluation", seed=0)

CAUGHT_BY = {
    "logits x 100": {"ce_zero"},
    "softmax output": {"output_kind"},
    "quantised input": {"ce_zero", "margin_zero", "plateau"},
    "quantised input, straight through": {"derivative_error"},
    "random noise layer": {"repeat_difference"},
    "detached gradient": {"missing_gradient"},
    "misleading gradient": {"derivative_error"},
    "jpeg-like rounding": {"margin_zero", "plateau"},
    "saturated sigmoid": {"margin_zero", "linear_distance"},
    "saturated tanh": {"margin_zero", "linear_distance"},
    "batch statistics": {"batch_difference", "in_training"},
    "counting calls": {"changed_state"},
    "purifying forward": {"needs_autograd"},
    "dropout at test time": {"repeat_difference"},
    "NaN on dark images": {"not_finite"},
}


def run(model: ModelUnderTest, batch: Batch) -> Evidence:
    return model_sanity(bare_context(model, batch, CELL), CELL)


@cache
def suspected(name: str) -> frozenset[str]:
    net = BROKEN[name](trained(hardened=False))
    return frozenset(doubt["name"] for doubt in run(wrap(net), held_out()).facts["suspicions"])


def test_every_broken_model_has_its_expectation() -> None:
    assert CAUGHT_BY.keys() == BROKEN.keys()


@pytest.mark.parametrize("name", BROKEN)
def test_a_planted_broken_model_is_flagged_for_what_is_wrong_with_it(name: str) -> None:
    assert suspected(name) >= CAUGHT_BY[name]


@pytest.mark.parametrize("hardened", [False, True])
def test_an_honest_model_is_not_flagged(hardened: bool) -> None:
    evidence = run(wrap(trained(hardened)), held_out())
    assert evidence.facts["suspicions"] == []
    assert evidence.status == "measured" and evidence.facts["output_kind"] == "logits"


@pytest.mark.parametrize("scale", [0.01, 5.0])
def test_an_honest_scale_of_the_logits_is_not_flagged(scale: float) -> None:
    net = nn.Sequential(trained(hardened=False), _Scale(scale))
    assert run(wrap(net), held_out()).facts["suspicions"] == []


def test_an_untrained_net_is_not_flagged(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    assert run(cnn_model, cnn_batch).facts["suspicions"] == []


def test_flagging_does_not_hang_on_the_example_order_or_seed() -> None:
    model, batch = wrap(trained(hardened=False)), held_out(12)
    order = torch.arange(11, -1, -1)
    forwards, backwards = run(model, batch), run(model, batch.select(order))
    for one, other in zip(forwards.measurements, backwards.measurements, strict=True):
        np.testing.assert_allclose(one.per_example, other.per_example[order.numpy()], atol=1e-3)


def test_the_evidence_is_storable_and_counts_its_cost() -> None:
    evidence = run(wrap(BROKEN["NaN on dark images"](trained(hardened=False))), held_out(16))
    json.dumps(dict(evidence.facts), allow_nan=False)
    assert {m.name for m in evidence.measurements} == set(rows_of("model sanity"))
    assert all(m.per_example.shape == (16,) for m in evidence.measurements)
    assert 30 * 16 <= evidence.forwards <= 40 * 16 and evidence.backwards == 4 * 16 + 1


def test_sentences_carry_the_share_they_speak_of() -> None:
    facts = run(wrap(BROKEN["detached gradient"](trained(hardened=False))), held_out(8)).facts
    sentences = {doubt["name"]: doubt["sentence"]["text"] for doubt in facts["suspicions"]}
    assert "100%" in sentences["margin_zero"] and "autograd" in sentences["missing_gradient"]


def test_the_linear_distance_is_exact_on_a_linear_model(linear_model: ModelUnderTest) -> None:
    images = 0.2 + 0.6 * torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    batch = Batch(images, linear_model.predictions(images), tuple("abcdef"))
    layer = linear_model.net[1]
    weight = layer.weight[1] - layer.weight[0]
    exact = (images.flatten(1) @ weight + layer.bias[1] - layer.bias[0]).abs() / weight.abs().sum()
    around = linearise(linear_model, batch)
    torch.testing.assert_close(linear_distance(around).float(), exact, rtol=1e-4, atol=0)
    draws = Generators.of(batch.ids, seed=0, purpose="t", device="cpu")
    assert derivative_error(linear_model, around, draws).max() < 5e-3


def test_the_derivative_error_of_an_unrelated_gradient_is_near_one(linear_model: ModelUnderTest) -> None:
    images = torch.full((4, 1, 6, 6), 0.4)
    batch = Batch(images, linear_model.predictions(images), tuple("abcd"))
    around = linearise(linear_model, batch)
    stranger = around.gradient.roll(5, -1).flip(-2)
    draws = Generators.of(batch.ids, seed=0, purpose="t", device="cpu")
    wrong = derivative_error(linear_model, replace(around, gradient=stranger), draws)
    assert wrong.min() > 0.4


def test_a_function_too_flat_for_float32_to_difference_is_not_called_a_liar(cnn_batch: Batch) -> None:
    layer = nn.Linear(144, 4)
    with torch.no_grad():
        layer.weight.mul_(1e-7)
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0, 0.5]))
    model = ModelUnderTest(
        nn.Sequential(nn.Flatten(), layer), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu"
    )
    around = linearise(model, cnn_batch)
    draws = Generators.of(cnn_batch.ids, seed=0, purpose="t", device="cpu")
    assert derivative_error(model, around, draws).max() == 0
    assert linear_distance(around).min() > 1, "and flat it is said to be"


class _Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return self.by * logits
