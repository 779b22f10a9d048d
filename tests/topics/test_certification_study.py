from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from broken_models import held_out, trained, wrap
from scipy import stats
from torch import nn

from audit.attacks.pgd import pgd
from audit.bounds.outcome import Outcome
from audit.bounds.prover import Prover
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable, UsageError
from audit.core.evidence import Evidence
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.metrics.interval_bounds import interval_bounds
from audit.metrics.smoothing import smoothing
from audit.models.under_test import ModelUnderTest
from audit.topics.certification.facts import BROKEN, OPEN, PROVEN
from audit.topics.certification.study import certification


def generators(batch: Batch, seed: int = 0) -> Generators:
    return Generators.of(batch.ids, seed=seed, purpose="test", device="cpu")


@pytest.fixture
def linear_batch(linear_model: ModelUnderTest) -> Batch:
    images = 0.2 + 0.6 * torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(8))
    return Batch(images, linear_model.predictions(images), tuple(map(str, range(24))))


def exact(model: ModelUnderTest, images: torch.Tensor, order: float) -> np.ndarray:
    """The distance to the linear boundary in the norm whose dual has this order."""
    layer = model.net[1]
    weight = (layer.weight[1] - layer.weight[0]).double()
    margin = (images.double().flatten(1) @ weight + (layer.bias[1] - layer.bias[0]).double()).abs()
    return (margin / torch.linalg.vector_norm(weight, order)).numpy()


def test_on_a_linear_model_the_smoothed_radius_nears_the_exact_distance_from_below(linear_model, linear_batch) -> None:
    """There the vote's share is Phi(distance / sigma) exactly."""
    distance, sigma, samples = exact(linear_model, linear_batch.images, 2), 0.25, 2000
    found = smoothing(linear_model, linear_batch.images, generators(linear_batch), sigma=sigma, samples=samples)
    assert (found.radius <= distance + 1e-9).all()
    share = stats.norm.cdf(distance / sigma)
    slack = 6 * np.sqrt(share * (1 - share) / samples) + 8 / samples
    expected = sigma * stats.norm.ppf(np.clip(share - slack, 0.5, None))
    assert (found.radius >= expected - 1e-9).all() and found.radius.max() > 0.3
    certified = found.predictions >= 0
    assert (found.predictions[certified] == linear_batch.labels.numpy()[certified]).all()


def test_a_unanimous_vote_gives_the_closed_form_radius(linear_model, linear_batch) -> None:
    far = linear_batch.select(torch.tensor([int(exact(linear_model, linear_batch.images, 2).argmax())]))
    found = smoothing(linear_model, far.images, generators(far), sigma=0.01, selection=10, samples=100, alpha=0.001)
    assert found.share[0] == pytest.approx(0.001 ** (1 / 100))
    assert found.radius[0] == pytest.approx(0.01 * stats.norm.ppf(0.001 ** (1 / 100)))


def test_a_vote_too_close_to_call_abstains(linear_model, linear_batch) -> None:
    layer = linear_model.net[1]
    weight = layer.weight[1] - layer.weight[0]
    images = linear_batch.images.flatten(1)
    margin = images @ weight + layer.bias[1] - layer.bias[0]
    on_boundary = (images - margin[:, None] * weight / weight.square().sum()).view_as(linear_batch.images)
    found = smoothing(linear_model, on_boundary, generators(linear_batch), samples=200)
    assert (found.predictions == -1).all() and (found.radius == 0).all()


def test_votes_do_not_depend_on_the_company_an_image_keeps(cnn_model, cnn_batch, monkeypatch) -> None:
    whole = smoothing(cnn_model, cnn_batch.images, generators(cnn_batch), selection=20, samples=80)
    monkeypatch.setattr("audit.metrics.smoothing._VALUES", 37 * 144)
    part = cnn_batch.select(torch.tensor([7, 2]))
    alone = smoothing(cnn_model, part.images, generators(part), selection=20, samples=80)
    np.testing.assert_array_equal(alone.share, whole.share[[7, 2]])
    other = smoothing(cnn_model, cnn_batch.images, generators(cnn_batch, 1), sigma=1.0, selection=20, samples=80)
    assert (other.share != whole.share).any()


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"samples": 0}, {"alpha": 0.7}])
def test_smoothing_without_meaning_is_refused(cnn_model, cnn_batch, wrong) -> None:
    with pytest.raises(UsageError, match="sigma"):
        smoothing(cnn_model, cnn_batch.images, generators(cnn_batch), **wrong)


def test_on_a_linear_model_interval_bounds_are_exact(linear_model, linear_batch) -> None:
    distance = exact(linear_model, linear_batch.images, 1)
    found = interval_bounds(linear_model, linear_batch).numpy()
    assert (found <= distance).all() and (found >= 0.98 * distance - 2e-4).all() and found.min() > 0


def test_normalisation_is_part_of_the_bound(linear_model, linear_batch) -> None:
    plain = interval_bounds(linear_model, linear_batch)
    layer = nn.Linear(36, 2)
    with torch.no_grad():
        old = linear_model.net[1]
        layer.weight.copy_(old.weight * 0.5)
        layer.bias.copy_(old.bias + old.weight.sum(1) * 0.3)
    shifted = ModelUnderTest(
        nn.Sequential(nn.Flatten(), layer),
        classes=("no", "yes"),
        input_shape=(1, 6, 6),
        mean=0.3,
        std=0.5,
        device="cpu",
    )
    torch.testing.assert_close(interval_bounds(shifted, linear_batch), plain, atol=3e-4, rtol=0)


@pytest.mark.parametrize("hardened", [False, True])
def test_what_is_certified_is_not_broken(hardened: bool) -> None:
    """Lower bound below upper bound, example by example; the proof covers something and not everything."""
    model, batch = wrap(trained(hardened)), held_out(32)
    radius = interval_bounds(model, batch)
    right = model.predictions(batch.images) == batch.labels
    assert (radius[~right] == 0).all() and (radius[right] > 0).any()
    for eps in (0.01, 0.03, 0.1, 0.2):
        found = pgd(model, batch, ThreatModel("linf", eps), generators(batch), steps=20)
        broken = model.predictions(found) != batch.labels
        assert not (broken & (radius > eps)).any()
    assert broken.any()


def test_a_net_with_an_operation_without_a_rule_is_not_applicable(cnn_batch) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.GELU(), nn.Linear(8, 4))
    model = ModelUnderTest(net, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    with pytest.raises(NotApplicable, match=r"layer '2' \(GELU\)"):
        interval_bounds(model, cnn_batch)


def certify(model: ModelUnderTest, batch: Batch, cell: Cell):
    return certification(bare_context(model, batch, cell), cell)


def test_the_study_counts_only_certificates_of_the_right_class(cnn_model, cnn_batch) -> None:
    wrong = Batch(cnn_batch.images, (cnn_batch.labels + 1) % 4, cnn_batch.ids)
    settings = {"samples": 60, "selection": 10, "sigma": 0.05}
    cell = Cell("certification", "smoothing", settings=settings, threat={"norm": "l2", "eps": 0.02})
    right = certify(cnn_model, cnn_batch, cell)
    assert right.measurement("certified_radius").per_example.max() > 0.02
    assert right.measurement("certified").per_example.max() == 1
    assert (certify(cnn_model, wrong, cell).measurement("certified_radius").per_example == 0).all()
    assert right.forwards == 10 * 70 and right.facts["norm"] == "l2" and "smoothed" in right.facts["certifies"]


def test_the_study_certifies_many_images_in_strides(cnn_model, cnn_batch) -> None:
    cell = Cell("certification", "interval-bounds")
    many = Batch(cnn_batch.images.repeat(4, 1, 1, 1), cnn_batch.labels.repeat(4), tuple(map(str, range(40))))
    radius = certify(cnn_model, many, cell).measurement("certified_radius").per_example.reshape(4, 10)
    assert (radius == radius[0]).all() and radius.max() > 0


BOUNDS = {
    "eps": [0.002, 0.01, 0.3],
    "rungs": ["interval-bounds", "crown", "crown-tightened", "alpha-crown"],
    "problems": 1,
}


def test_linear_bounds_bracket_the_robust_accuracy(cnn_model, cnn_batch) -> None:
    """Nothing proven is broken; the radius is the largest eps proven; images that are wrong are broken."""
    cell = Cell("certification", "linear-bounds", settings=BOUNDS, threat={"norm": "linf", "eps": 0.01})
    wrong = cnn_batch.labels.clone()
    wrong[0] = (wrong[0] + 1) % 4
    evidence = certify(cnn_model, Batch(cnn_batch.images, wrong, cnn_batch.ids), cell)
    verdicts, proven_by = evidence.arrays["verdicts"], evidence.arrays["proven_by"]
    assert verdicts.shape == proven_by.shape == (3, 10)
    assert (verdicts[:, 0] == BROKEN).all()
    assert ((verdicts == PROVEN) == (proven_by >= 0)).all()
    assert (np.diff((verdicts == PROVEN).astype(int), axis=0) <= 0).all() and (verdicts[0, 1:] == PROVEN).any()
    radius = evidence.measurement("certified_radius").per_example
    largest = np.array([0.0, 0.002, 0.01, 0.3])[(verdicts == PROVEN).sum(0)]
    np.testing.assert_allclose(radius, largest, atol=3e-6)
    assert (evidence.measurement("certified").per_example == (verdicts[1] == PROVEN)).all()
    for row, eps in enumerate(BOUNDS["eps"]):
        attacked = pgd(cnn_model, cnn_batch, ThreatModel("linf", eps), generators(cnn_batch), steps=20)
        broken = (cnn_model.predictions(attacked) != cnn_batch.labels).numpy()
        assert not (broken[1:] & (verdicts[row, 1:] == PROVEN)).any()


FURTHER = {
    "eps": BOUNDS["eps"],
    "rungs": ["crown-tightened", "alpha-crown", "branch-and-bound"],
    "problems": 300,
}


def further(
    model: ModelUnderTest,
    batch: Batch,
    before: Evidence,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Evidence:
    """What a cell that goes on from another comes to."""
    cell = Cell(
        "certification",
        "linear-bounds",
        settings=FURTHER,
        threat={"norm": "linf", "eps": 0.01},
        inputs={"certification": before.cell.key},
    )
    context = replace(bare_context(model, batch, cell, **options), evidence=lambda name: before, progress=progress)
    return certification(context, cell)


@pytest.fixture
def first_stage(cnn_model: ModelUnderTest, cnn_batch: Batch) -> Evidence:
    cell = Cell(
        "certification",
        "linear-bounds",
        settings={"eps": BOUNDS["eps"], "rungs": ["interval-bounds", "alpha-crown"]},
        threat={"norm": "linf", "eps": 0.01},
    )
    return certify(cnn_model, cnn_batch, cell)


def test_a_further_stage_asks_what_is_open_alone_and_keeps_the_rest(
    cnn_model, cnn_batch, first_stage, monkeypatch
) -> None:
    before = first_stage.arrays["verdicts"]
    asked, prove = [], Prover.prove

    def recorded(self: Prover, images: torch.Tensor, *args: Any, **settings: Any) -> list[Outcome]:
        asked.extend((cnn_batch.images == image).flatten(1).all(1).nonzero().item() for image in images)
        return prove(self, images, *args, **settings)

    monkeypatch.setattr(Prover, "prove", recorded)
    after = further(cnn_model, cnn_batch, first_stage)
    open_ = set((before == OPEN).any(0).nonzero()[0].tolist())
    assert set(asked) == open_ and 0 < len(open_) < len(cnn_batch)
    kept = before != OPEN
    assert (after.arrays["verdicts"][kept] == before[kept]).all() and (after.arrays["verdicts"] != before).any()
    names = np.array([*after.facts["rungs"], ""])[after.arrays["proven_by"]]
    old = np.array([*first_stage.facts["rungs"], ""])[first_stage.arrays["proven_by"]]
    assert (names[kept] == old[kept]).all()
    assert (after.arrays["predictions"] == first_stage.arrays["predictions"]).all()


def test_stages_come_to_what_all_bounds_come_to_at_once(cnn_model, cnn_batch, first_stage) -> None:
    after = further(cnn_model, cnn_batch, first_stage)
    settings = {**FURTHER, "rungs": ["interval-bounds", *FURTHER["rungs"]]}
    cell = Cell("certification", "linear-bounds", settings=settings, threat={"norm": "linf", "eps": 0.01})
    at_once = certify(cnn_model, cnn_batch, cell)
    assert (after.arrays["verdicts"] == at_once.arrays["verdicts"]).all()
    assert {OPEN, PROVEN, BROKEN} & set(at_once.arrays["verdicts"].flatten().tolist()) >= {PROVEN, BROKEN}


def test_a_further_stage_costs_nothing_where_all_is_decided(cnn_model, cnn_batch, first_stage) -> None:
    first_stage.arrays["verdicts"][first_stage.arrays["verdicts"] == OPEN] = BROKEN
    after = further(cnn_model, cnn_batch, first_stage)
    assert (after.forwards, after.backwards) == (0, 0)
    assert (after.arrays["verdicts"] == first_stage.arrays["verdicts"]).all()


def test_a_further_stage_that_was_stopped_goes_on_with_the_image_it_was_at(
    cnn_model, cnn_batch, first_stage, tmp_path
) -> None:
    whole = further(cnn_model, cnn_batch, first_stage, scratch=tmp_path / "whole")
    done: list[int] = []
    calls: list[int] = []

    def stopping() -> bool:
        """In the middle of the second image."""
        calls.extend(done)
        return len(calls) > 3

    with pytest.raises(Interrupted, match="the same command resumes"):
        further(
            cnn_model,
            cnn_batch,
            first_stage,
            scratch=tmp_path / "cut",
            stopping=stopping,
            progress=lambda steps, total: done.append(steps),
        )
    assert done == [1]
    assert list((tmp_path / "cut").iterdir())
    resumed = further(cnn_model, cnn_batch, first_stage, scratch=tmp_path / "cut")
    assert all((resumed.arrays[name] == array).all() for name, array in whole.arrays.items())
    assert (resumed.forwards, resumed.backwards) == (whole.forwards, whole.backwards)


def test_another_norm_than_the_certificates_own_is_not_applicable(cnn_model, cnn_batch) -> None:
    with pytest.raises(NotApplicable, match="l2"):
        certify(cnn_model, cnn_batch, Cell("certification", "smoothing", threat={"norm": "linf", "eps": 0.1}))
    with pytest.raises(UsageError, match="smoothing"):
        certify(cnn_model, cnn_batch, Cell("certification", "smoothin"))
