"""The small parts: schedules, penalties, averages, weight perturbation, validation, dropout."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.errors import UsageError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.training.around_net import dropout_before_head
from audit.training.awp import adversarial_weight_perturbation
from audit.training.optimisation import (
    WARM_UP,
    ModelEma,
    clip_gradient,
    make_optimizer,
    rate_factor,
    set_learning_rate,
    weight_penalty,
    with_weights,
)
from audit.training.step import StepOutput
from audit.training.validation import count_under_pgd
from tests.conftest import linear_net
from tests.training.toy import same_weights, tiny_net


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing() -> None:
    curve = [rate_factor("one-cycle", i / 400) for i in range(401)]
    peak = curve.index(max(curve))
    assert peak == WARM_UP * 400 and curve[peak] == 1
    assert curve[:peak] == sorted(curve[:peak]) and curve[peak:] == sorted(curve[peak:], reverse=True)
    assert curve[-1] == pytest.approx(0, abs=1e-12) and 0 < curve[0] < 0.1


def test_the_other_schedules_have_their_closed_forms() -> None:
    assert [rate_factor("cosine", p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert rate_factor("cosine", 1 / 3) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert [rate_factor("step", p) for p in (0, 0.49, 0.5, 0.74, 0.75, 1)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert {rate_factor("constant", p) for p in (0, 0.3, 1)} == {1.0}


def test_penalties_weigh_matrices_and_spare_biases() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, -4.0]]))
        net.bias.fill_(100.0)
    assert weight_penalty(net, l1=0.1, l2=0.0).item() == pytest.approx(0.7)
    assert weight_penalty(net, l1=0.0, l2=0.1).item() == pytest.approx(2.5)
    assert weight_penalty(net, l1=0.0, l2=0.0).item() == 0.0


def test_a_clipped_gradient_has_the_norm_it_may_have() -> None:
    net = nn.Linear(3, 1)
    net(torch.ones(1, 3)).sum().backward()
    clip_gradient(net, None)
    assert net.weight.grad is not None and net.weight.grad.norm() == pytest.approx(math.sqrt(3))
    clip_gradient(net, 0.5)
    total = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm()
    assert total == pytest.approx(0.5, rel=1e-4)


def test_each_group_gets_its_share_of_the_rate() -> None:
    net = tiny_net()
    groups = [{"params": net[0].parameters(), "factor": 0.1}, {"params": net[7].parameters(), "factor": 1.0}]
    optimizer = make_optimizer(groups, TrainingConfig(optimizer="sgd", momentum=0.5))
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2])
    assert {group["momentum"] for group in optimizer.param_groups} == {0.5}


def test_the_average_follows_its_recursion_and_the_net_keeps_its_own_weights() -> None:
    net = nn.Linear(1, 1, bias=False)
    average, expected = ModelEma(net, 0.9), net.weight.item()
    for step in range(1, 40):
        net.weight.data.fill_(float(step))
        average.update(net)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-5)
    with with_weights(net, average.weights):
        assert net.weight.item() == pytest.approx(expected, rel=1e-5)
    assert net.weight.item() == 39


def test_averaged_buffers_are_copied() -> None:
    net = tiny_net(norm=True)
    average = ModelEma(net, 0.99)
    net(torch.rand(8, 1, 9, 9))
    average.update(net)
    assert average.weights["1.num_batches_tracked"] == 1


def test_the_worst_weights_are_one_relative_step_up_the_gradient_and_undone_bitwise() -> None:
    net, images, labels = tiny_net(), torch.rand(6, 1, 9, 9), torch.arange(6) % 3
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def objective() -> StepOutput:
        logits = net(images)
        return StepOutput(cross_entropy(logits, labels), logits)

    loss = objective().loss.item()
    gradient = torch.autograd.grad(objective().loss, net[0].weight)[0]
    with adversarial_weight_perturbation(net, 0.01, lambda weights: torch.autograd.grad(objective().loss, weights)):
        moved = net[0].weight.detach() - before["0.weight"]
        assert torch.allclose(moved, 0.01 * before["0.weight"].norm() * gradient / gradient.norm(), atol=1e-6)
        assert torch.equal(net[0].bias, before["0.bias"])
        assert objective().loss.item() > loss
    assert same_weights(net.state_dict(), before)


def test_validation_finds_exactly_the_linear_examples_that_can_be_crossed() -> None:
    """On a linear net an image falls to linf eps exactly when its margin is below eps times the l1 of the weights."""
    weight = torch.randn(16, generator=torch.Generator().manual_seed(0))
    net = linear_net(torch.stack([-weight, weight]), torch.zeros(2))
    images = 0.5 + 0.2 * torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(1)).clamp(-1.9, 1.9)
    net[1].bias.data.copy_(torch.stack([0.5 * weight.sum(), -0.5 * weight.sum()]))
    margin = (images - 0.5).flatten(1) @ weight
    batch = Batch(images, (margin > 0).long(), tuple(map(str, range(200))))
    eps = 0.05
    expected = float((margin.abs() > eps * weight.abs().sum()).float().mean())
    robust = count_under_pgd(
        net, batch, ThreatModel("linf", eps), lambda z, y: cross_entropy(z, y, reduction="none"), seed=0, steps=12
    )
    assert 0.2 < expected < 0.9
    assert robust / len(batch) == pytest.approx(expected, abs=0.006)


def test_dropout_acts_in_training_only_and_leaves_no_trace() -> None:
    net = linear_net(torch.ones(1, 400), torch.zeros(1))
    images = torch.ones(1, 1, 20, 20)
    with dropout_before_head(net, 0.5):
        net.train()
        assert net(images).item() != 400
        assert net(images).item() == pytest.approx(400, abs=100)
        assert net.eval()(images).item() == pytest.approx(400)
    assert net.train()(images).item() == pytest.approx(400)
    with pytest.raises(UsageError, match="needs a linear layer"), dropout_before_head(nn.Flatten(), 0.1):
        pass
