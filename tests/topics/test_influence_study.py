"""Copies come first, labels matter, supporters left out cost the answer more than others do; all as autograd has it."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from captum.influence import TracInCP
from made_entries import results_of
from made_run import built_rows
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.core.seeding import fork_global_rng
from audit.core.types import Batch
from audit.explanation.features import features_and_logits
from audit.metrics.ekfac import require_kronfluence
from audit.metrics.influence import head_gradients, nearest_rows, refitted_head, tracin
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.topics.influence.check import influence as influence_check
from audit.topics.influence.study import influence


def data(count: int, seed: int) -> Batch:
    """Four classes: the bright quarter of an image of noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    pictures = torch.rand(count, 1, 8, 8, generator=draw) * 0.6
    for row, label in enumerate(labels.tolist()):
        pictures[row, 0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 0.1
    return Batch(pictures.clamp(0, 1), labels, tuple(f"train/{row:05d}" for row in range(count)))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 4))


@pytest.fixture(scope="module")
def model() -> ModelUnderTest:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module, batch = net(), data(200, 5)
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(batch.images), batch.labels).backward()
            optimiser.step()
    return ModelUnderTest(module, classes="abcd", input_shape=(1, 8, 8), device="cpu")


def looked(model: ModelUnderTest, batch: Batch, training: Batch, method: str = "tracin-last-layer") -> Evidence:
    cell = Cell("influence", method, settings={"training": len(training), "of": "x", "count": 5, "refitted": 24})
    context = bare_context(model, batch, cell)

    def others(examples: Slice) -> Batch:
        return training.select(torch.arange(examples.start, examples.stop))

    return influence(replace(context, others=others), cell)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_the_closed_form_is_what_captum_computes_over_checkpoints(tmp_path: Path) -> None:
    training, tests = data(40, 6), data(7, 7)
    rates, gradients = [], {"test": [], "train": []}  # type: ignore[var-annotated]
    paths = []
    for number in range(3):
        module = net()
        paths.append(str(tmp_path / f"{number}.pt"))
        torch.save({"weights": module.state_dict(), "rate": 0.1 * (number + 1)}, paths[-1])
        rates.append(0.1 * (number + 1))
        wrapped = ModelUnderTest(module, classes="abcd", input_shape=(1, 8, 8), device="cpu")
        for name, batch in (("test", tests), ("train", training)):
            seen = features_and_logits(wrapped, batch.images)
            gradients[name].append(head_gradients(seen.features, seen.logits, batch.labels))

    def load(module: nn.Module, path: str) -> float:
        stored = torch.load(path)
        module.load_state_dict(stored["weights"])
        return float(stored["rate"])

    captum = TracInCP(
        net(),
        TensorDataset(training.images, training.labels),
        paths,
        load,
        layers=["3"],
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=40,
        sample_wise_grads_per_batch=True,
    )
    theirs = captum.influence((tests.images, tests.labels))
    ours = tracin(gradients["test"], gradients["train"], rates)
    assert torch.allclose(ours.float(), theirs, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_last_layer_has_the_length_that_autograd_gives(model: ModelUnderTest) -> None:
    batch = data(5, 8)
    seen = features_and_logits(model, batch.images)
    squares = head_gradients(seen.features, seen.logits, batch.labels).squares
    layer: nn.Linear = model.net.get_submodule("3")  # type: ignore[assignment]
    for row in range(5):
        weight, bias = (p.detach().clone().requires_grad_(True) for p in (layer.weight, layer.bias))
        loss = nn.functional.cross_entropy(seen.features[row : row + 1] @ weight.T + bias, batch.labels[row : row + 1])
        parts = torch.autograd.grad(loss, (weight, bias))
        assert float(sum(part.square().sum() for part in parts)) == pytest.approx(float(squares[row]), rel=1e-4)


def test_copies_come_first_labels_matter_and_supporters_are_missed(model: ModelUnderTest) -> None:
    training, tests = data(200, 5), data(24, 9)
    evidence = looked(model, tests, training)
    facts = evidence.facts
    assert facts["copies_first"] >= 0.95 * facts["copies"] and facts["copies_nearest"] >= 0.95 * facts["copies"]
    assert facts["shared_with_random_labels"] < 0.5
    drop, control = (evidence.measurement(name).per_example for name in ("refit_drop", "refit_control"))
    assert np.isfinite(drop).sum() == 24 and np.nanmean(drop) > np.nanmean(control)
    run = results_of((Task(evidence.cell, "standard", Slice("test", 0, 24), 0), evidence))
    finding = influence_check(run, "standard", load_config())
    assert finding is not None and finding.verdict == "pass"
    rows: Any = built_rows("influence", run)
    supporting = [row for row in rows if row.kind == "supporting"]
    assert np.mean([label == row.prediction for row in supporting for label in row.training]) > 0.8


def test_exact_copies_in_the_training_set_support_first_and_a_wrong_label_is_a_suspect(model: ModelUnderTest) -> None:
    training, tests = data(200, 5), data(24, 9)
    images, labels = training.images.clone(), training.labels.clone()
    images[:24], labels[:24] = tests.images, model.predictions(tests.images)
    labels[100] = (model.predictions(images[100:101])[0] + 1) % 4
    evidence = looked(model, tests, replace(training, images=images, labels=labels))
    assert (evidence.arrays["supporting"][:, 0] == np.arange(24)).mean() >= 0.95
    assert (evidence.arrays["neighbours"][:, 0] == np.arange(24)).all()
    assert 100 in evidence.arrays["suspects"]


def test_labels_at_random_change_who_supports(model: ModelUnderTest) -> None:
    training, tests = data(200, 5), data(24, 9)
    shuffled = training.labels[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    before, after = (looked(model, tests, replace(training, labels=labels)) for labels in (training.labels, shuffled))
    same = [set(a) & set(b) for a, b in zip(before.arrays["supporting"], after.arrays["supporting"], strict=True)]
    assert np.mean([len(shared) for shared in same]) < 2.5


def test_a_net_whose_last_layer_is_not_its_logits_names_neighbours_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    pooled = ModelUnderTest(nn.Sequential(module, nn.Flatten()), classes="abcd", input_shape=(1, 8, 8), device="cpu")
    evidence = looked(pooled, data(8, 9), data(60, 5))
    assert evidence.status == "measured" and evidence.facts["exact"] is False
    assert "supporting" not in evidence.arrays and evidence.arrays["neighbours"].shape == (8, 5)


def test_neighbours_are_those_of_every_distance(model: ModelUnderTest) -> None:
    queries, pool = torch.randn(9, 5), torch.randn(40, 5)
    positions, distances = nearest_rows(queries, pool, 3)
    every = (queries[:, None] - pool[None]).norm(dim=2)
    assert torch.equal(positions, every.argsort(dim=1)[:, :3])
    assert torch.allclose(distances.float(), every.sort(dim=1).values[:, :3], atol=1e-5)


def test_the_last_layer_fitted_anew_is_at_the_minimum() -> None:
    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(60, 4)), draw.integers(0, 3, 60)
    weights = torch.tensor(refitted_head(features, labels, 3, decay=0.01)).requires_grad_(True)
    rows = torch.cat([torch.from_numpy(features), torch.ones(60, 1, dtype=torch.float64)], 1)
    loss: Tensor = nn.functional.cross_entropy(rows @ weights.T, torch.from_numpy(labels))
    loss = loss + 0.01 * weights[:, :-1].square().sum() / 2
    (gradient,) = torch.autograd.grad(loss, weights)
    assert float(gradient.abs().max()) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("kronfluence"), reason="the extra audit[influence] is not installed")
def test_ek_fac_passes_the_same_controls_and_leaves_the_model_alone(model: ModelUnderTest) -> None:
    training, tests, before = data(200, 5), data(24, 9), model.fingerprint()
    with fork_global_rng(torch.device("cpu"), "ek-fac"), model.count() as counter:
        evidence = looked(model, tests, training, "ek-fac")
    assert evidence.facts["copies_first"] >= 0.95 * evidence.facts["copies"]
    assert evidence.facts["shared_with_random_labels"] < 0.5
    drop, control = (evidence.measurement(name).per_example for name in ("refit_drop", "refit_control"))
    assert np.nanmean(drop) > np.nanmean(control)
    assert model.fingerprint() == before and counter.backwards > 4 * 200


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'audit\[influence\]'"):
        require_kronfluence()
