"""Training for proofs: its loss bounds every attack's, the radius grows as said, the epoch kept has most proven."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.bounds.outcome import Budget
from audit.bounds.propagate import interval_values
from audit.bounds.prover import Prover
from audit.config import HardeningConfig
from audit.core.errors import ModelError, UsageError
from audit.core.registry import find, methods
from audit.core.threat import ThreatModel
from audit.models.under_test import ModelUnderTest
from audit.training.certified import ball, bound_graph, count_proven, ramp, worst_logits
from audit.training.fit import fit
from audit.training.validation import selection_score
from tests.training.test_training_recipes import outcomes, step_of
from tests.training.toy import thirds, tiny_net

PROVING = [method.name for method in methods("recipe") if method.facts.get("proves")]
THREAT = ThreatModel("linf", 0.05)


def hardened(recipe: str, epochs: int = 12, **settings: Any) -> tuple[nn.Module, list[dict[str, Any]]]:
    net = tiny_net()
    config = HardeningConfig(
        recipe=recipe,
        epochs=epochs,
        batch_size=30,
        optimizer="adam",
        learning_rate=0.02,
        recipe_settings=settings,
        probe_examples=60,
    )
    result = fit(net, thirds(300), config, classes=3, threat=THREAT, mean=0.0, std=1.0)
    net.load_state_dict(result.weights)
    return net.eval(), list(result.history)


def proven(net: nn.Module) -> float:
    test = thirds(60, seed=9)
    model = ModelUnderTest(net, classes="abc", input_shape=(1, 9, 9), device="cpu")
    outcomes_ = Prover(model).prove(
        test.images, test.labels, test.target_mask(3), "linf", THREAT.eps, Budget(("interval-bounds",))
    )
    return sum(o.verdict == "proven" for o in outcomes_) / 60


@pytest.mark.parametrize("recipe", PROVING)
def test_a_net_trained_for_proofs_is_proven_where_a_plain_one_is_not(recipe: str) -> None:
    net, history = hardened(recipe)
    plain, _ = hardened("standard")
    assert proven(net) >= 0.8
    assert proven(plain) <= 0.2
    assert history[-1]["proven_accuracy"] >= 0.8


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_logits_cost_at_least_what_any_image_of_the_ball_costs(norm: Any, linear: bool) -> None:
    net, batch = tiny_net(norm=True).eval(), thirds(8)
    threat = ThreatModel(norm, 0.1)
    graph = bound_graph(net, batch.images)
    region = ball(batch.images, threat, threat.eps)
    worst = worst_logits(graph, interval_values(graph, region, rounding=False), region, batch.labels, linear=linear)
    bound = cross_entropy(worst, batch.labels, reduction="none")
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        noise = torch.randn(batch.images.shape, generator=generator)
        images = threat.project(batch.images + (noise.sign() * 0.1 if norm == "linf" else noise), batch.images)
        assert bool((cross_entropy(net(images), batch.labels, reduction="none") <= bound + 1e-5).all())


def test_the_recorded_graph_follows_the_weights_and_gives_their_gradients() -> None:
    net, batch = tiny_net(norm=True).eval(), thirds(4)
    graph = bound_graph(net, batch.images)
    assert bound_graph(net, batch.images) is graph
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    point = ball(batch.images, THREAT, 0.0)
    logits = interval_values(graph, point, rounding=False).boxes[graph.output].low
    assert torch.allclose(logits, net(batch.images), atol=1e-5)
    own = torch.autograd.grad(net(batch.images).sum(), list(net.parameters()))
    recorded = torch.autograd.grad(logits.sum(), list(net.parameters()))
    for a, b in zip(own, recorded, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_the_radius_is_0_in_the_warm_up_grows_without_a_jump_and_ends_at_eps() -> None:
    step = step_of(thirds(3), THREAT)
    sizes = [ramp(replace(step, progress=p / 1000), 0.1, 0.6).eps for p in range(1000)]
    assert sizes[:101] == [0.0] * 101
    assert sizes[600:] == [pytest.approx(0.05)] * 400
    steps = [b - a for a, b in pairwise(sizes)]
    assert min(steps) >= 0 and max(steps) < 0.05 / 300


def test_untrained_weights_are_scaled_at_the_first_step_and_learnt_ones_are_not() -> None:
    batch = thirds(30)
    fresh, learnt = tiny_net(), hardened("standard")[0]
    for net, scaled in ((fresh, True), (learnt, False)):
        before = net[0].weight.clone()
        outcomes("ibp", net, step_of(batch, THREAT))
        assert (not torch.equal(before, net[0].weight)) is scaled
    before = fresh[0].weight.clone()
    outcomes("ibp", fresh, replace(step_of(batch, THREAT), progress=0.5))
    assert torch.equal(before, fresh[0].weight)


def test_the_epoch_kept_is_the_one_with_most_proven() -> None:
    rows = [
        {"clean_accuracy": 0.9, "robust_accuracy": 0.8, "proven_accuracy": 0.1},
        {"clean_accuracy": 0.7, "robust_accuracy": 0.6, "proven_accuracy": 0.5},
    ]
    assert max(rows, key=selection_score) is rows[1]


def test_the_share_proven_in_training_is_that_of_the_prover() -> None:
    net, _ = hardened("ibp", epochs=6)
    test = thirds(60, seed=9)
    share = count_proven(net, test.images, test.labels, THREAT) / len(test)
    assert share == pytest.approx(proven(net), abs=0.05)


@pytest.mark.parametrize("recipe", PROVING)
def test_a_net_that_bounds_do_not_know_is_refused_by_the_name_of_its_layer(recipe: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(81, 8), nn.GELU(), nn.Linear(8, 3))
    with pytest.raises(ModelError, match=r"GELU.*Choose recipe pgd"):
        next(iter(find("recipe", recipe).function(net, step_of(thirds(6), THREAT))))


def test_weights_behind_a_parametrisation_are_refused() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 81))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x.flatten(1), self.weight * 0.5)

    with pytest.raises(UsageError, match="do not reach the weights weight"):
        bound_graph(Halved(), thirds(3).images)
