"""Proofs against exact distances: never one too many, and with branch and bound hardly one too few."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact_minimum import exact_linf, images_near_the_boundary, tiny_relu_model
from torch import Tensor, nn

from audit.bounds import ladder
from audit.bounds.outcome import RUNGS, Budget, Outcome
from audit.bounds.prover import Prover
from audit.core.errors import NotApplicable
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


def verdicts(model: ModelUnderTest, batch: Batch, norm: str, radius: float, budget: Budget) -> list[str]:
    goal = batch.target_mask(len(model.classes))
    return [o.verdict for o in Prover(model).prove(batch.images, batch.labels, goal, norm, radius, budget)]


def exact_distances(model: ModelUnderTest, batch: Batch) -> list[float]:
    pairs = zip(batch.images, batch.labels, strict=True)
    return [exact_linf(model, image.flatten().double().numpy(), int(label)) for image, label in pairs]


@pytest.fixture
def model() -> ModelUnderTest:
    return tiny_relu_model()


@pytest.fixture
def batch(model: ModelUnderTest) -> Batch:
    return images_near_the_boundary(model)


def test_a_radius_one_percent_below_the_exact_distance_is_proven_and_one_above_is_broken(
    model: ModelUnderTest, batch: Batch
) -> None:
    for i, distance in enumerate(exact_distances(model, batch)):
        one = batch.select(torch.tensor([i]))
        assert verdicts(model, one, "linf", 0.99 * distance, Budget()) == ["proven"]
        assert verdicts(model, one, "linf", 1.01 * distance, Budget()) == ["broken"]


@pytest.mark.parametrize("rung", RUNGS)
def test_no_rung_proves_more_than_is_true(model: ModelUnderTest, batch: Batch, rung: str) -> None:
    budget = Budget(rungs=RUNGS[: RUNGS.index(rung) + 1])  # type: ignore[arg-type]
    for i, distance in enumerate(exact_distances(model, batch)):
        one = batch.select(torch.tensor([i]))
        for factor in (1.0001, 1.01, 1.2, 2.0):
            assert verdicts(model, one, "linf", factor * distance, budget) != ["proven"]


def deep_model(seed: int, kind: str = "linf") -> ModelUnderTest:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return ModelUnderTest(net, classes="abc", input_shape=(1, 6, 6), device="cpu", mean=0.4, std=0.6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_image_of_a_small_convolutional_net_is_decided(norm: str) -> None:
    """Branch and bound is complete: what it does not prove it breaks, inside the ball."""
    model = deep_model(3)
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, model.predictions(images), tuple("abcdef"))
    radius = {"linf": 0.08, "l2": 0.15, "l1": 0.3}[norm]
    prover = Prover(model)
    outcomes = prover.prove(images, batch.labels, batch.target_mask(3), norm, radius, Budget(problems=20_000))
    found = [o.verdict for o in outcomes]
    assert set(found) == {"proven", "broken"}
    assert any(o.rung == "branch-and-bound" for o in outcomes)
    for outcome, image, label in zip(outcomes, images, batch.labels, strict=True):
        if outcome.adversarial is not None:
            point = outcome.adversarial.float()[None]
            assert int(model.predictions(point)) != int(label)
            order = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
            assert float((point - image).flatten().norm(order)) <= radius * (1 + 1e-5)


def test_slopes_of_several_images_at_once_come_to_what_each_comes_to_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images have one, two and no open functions left, so some rows are filled up with zero functions."""
    model = deep_model(3)
    images = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    goal = Batch(images, model.predictions(images), tuple(map(str, range(12)))).target_mask(3)
    rows: list[int] = []
    optimise = ladder.optimise

    def counted(graph: Any, values: Any, region: Any, coefficients: Tensor, **settings: Any) -> Any:
        rows.append(len(coefficients))
        return optimise(graph, values, region, coefficients, **settings)

    monkeypatch.setattr(ladder, "optimise", counted)
    budget = Budget(("interval-bounds", "alpha-crown"))

    def outcomes() -> list[Outcome]:
        return Prover(model).prove(images, model.predictions(images), goal, "linf", 0.05, budget)

    together, largest = outcomes(), max(rows)
    monkeypatch.setattr(ladder, "images_at_once", lambda graph, functions: 1)
    rows.clear()
    alone = outcomes()
    assert largest > 1 and set(rows) == {1}
    assert {o.verdict for o in together} == {"proven", "broken", "open"}
    assert [(o.verdict, o.rung) for o in together] == [(o.verdict, o.rung) for o in alone]
    for one, other in zip(together, alone, strict=True):
        if one.verdict == "open":  # those that are proven may go on while others of their group are not
            assert one.bound == pytest.approx(other.bound, abs=1e-4)


def test_a_weight_nudged_until_a_violation_just_exists_is_never_proven() -> None:
    """The last bias moves until the worst corner of a net with two pixels ties: from there on nothing proves it."""
    model = tiny_relu_model()
    batch = images_near_the_boundary(model)
    for i, distance in enumerate(exact_distances(model, batch)):
        one = batch.select(torch.tensor([i]))
        for nudge in (1e-7, 1e-6, 1e-5):
            assert verdicts(model, one, "linf", distance * (1 + nudge), Budget()) != ["proven"]


def test_classes_that_are_no_violation_need_no_proof(model: ModelUnderTest, batch: Batch) -> None:
    nothing = torch.zeros(len(batch), 2, dtype=torch.bool)
    outcomes = Prover(model).prove(batch.images, batch.labels, nothing, "linf", 0.5, Budget())
    assert [o.verdict for o in outcomes] == ["proven"] * len(batch)


@pytest.mark.parametrize("last", ["softmax", "sigmoid", "one logit"])
def test_nets_that_end_otherwise_have_the_verdicts_of_their_logits(last: str) -> None:
    generator = torch.Generator().manual_seed(2)
    body = nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 1))
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    images = torch.rand(12, 1, 3, 3, generator=generator)
    with torch.no_grad():
        body[3].bias -= body(images).median()
    two = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        two.weight.copy_(torch.tensor([[0.0], [1.0]]))
    ends = {"softmax": [two, nn.Softmax(1)], "sigmoid": [nn.Sigmoid()], "one logit": []}

    def answers(layers: list[nn.Module]) -> list[str]:
        model = ModelUnderTest(nn.Sequential(body, *layers), classes="ab", input_shape=(1, 3, 3), device="cpu")
        labels = model.predictions(images)
        batch = Batch(images, labels, tuple(map(str, range(12))))
        prover = Prover(model)
        prover.check_agreement(images)
        return [o.verdict for o in prover.prove(images, labels, batch.target_mask(2), "linf", 0.05, Budget())]

    assert answers(ends[last]) == answers([two])
    assert set(answers([two])) == {"proven", "broken"}


def test_a_forward_that_leaves_torch_in_part_is_found_out() -> None:
    class Leaves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            extra = torch.from_numpy(x.detach().flatten(1).float().numpy().copy()).to(x.dtype)
            logits: Tensor = self.dense(x.flatten(1)) + extra[:, :2]
            return logits

    model = ModelUnderTest(Leaves(), classes="ab", input_shape=(1, 3, 3), device="cpu")
    with pytest.raises(NotApplicable, match="differ between images and that no operation links"):
        Prover(model)


def test_a_forward_that_answers_otherwise_on_other_images_is_found_out() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            factor = 3.0 if x.detach().numpy().max() > 0.999 else 1.0
            logits: Tensor = self.dense(x.flatten(1)) * factor
            return logits

    model = ModelUnderTest(Branches(), classes="ab", input_shape=(1, 3, 3), device="cpu")
    prover = Prover(model)
    with pytest.raises(NotApplicable, match="answers otherwise than the operations recorded"):
        prover.check_agreement(torch.ones(4, 1, 3, 3))


def test_proofs_are_the_same_twice_and_the_model_is_left_as_found(model: ModelUnderTest, batch: Batch) -> None:
    before = model.fingerprint()
    goal = batch.target_mask(2)
    runs = [Prover(model).prove(batch.images, batch.labels, goal, "linf", 0.1, Budget()) for _ in range(2)]
    assert [(o.verdict, o.rung, o.bound, o.problems) for o in runs[0]] == [
        (o.verdict, o.rung, o.bound, o.problems) for o in runs[1]
    ]
    assert model.fingerprint() == before
