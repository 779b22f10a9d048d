"""A proof that runs out of memory, or of time, in any of its bounds: smaller batches, the same answer; or none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.bounds import alpha, branching, ladder, propagate, sweeps, tighten
from audit.bounds.outcome import RUNGS, Budget, Outcome
from audit.bounds.propagate import interval_values
from audit.bounds.prover import Prover
from audit.bounds.region import Region
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

MODULES = {"sweeps": sweeps, "tighten": tighten, "alpha": alpha, "ladder": ladder, "branching": branching}
EPS = 0.08


@pytest.fixture(scope="module")
def model() -> ModelUnderTest:
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return ModelUnderTest(net, classes="abc", input_shape=(1, 6, 6), device="cpu", mean=0.4, std=0.6)


@pytest.fixture(scope="module")
def batch(model: ModelUnderTest) -> Batch:
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Batch(images, model.predictions(images), tuple("abcdef"))


@pytest.fixture(scope="module")
def usual(model: ModelUnderTest, batch: Batch) -> list[Outcome]:
    return proofs(model, batch, Budget(problems=200))


def proofs(model: ModelUnderTest, batch: Batch, budget: Budget) -> list[Outcome]:
    return Prover(model).prove(batch.images, batch.labels, batch.target_mask(3), "linf", EPS, budget)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("room", ["sweeps", "tighten", "alpha", "ladder", "branching"])
def test_memory_that_runs_out_in_one_bound_halves_its_batch_and_changes_no_answer(
    model: ModelUnderTest, batch: Batch, usual: list[Outcome], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = propagate.lower_bound, Counter[str]()

    def scarce(graph: Any, values: Any, region: Any, start: int, coefficients: Tensor, *args: Any, **more: Any) -> Any:
        rows = coefficients.shape[0] * coefficients.shape[1]
        if rows > 2 and (rows > 4 or room != "branching"):
            faults[room] += 1
            raise torch.OutOfMemoryError("injected")
        return real(graph, values, region, start, coefficients, *args, **more)

    monkeypatch.setattr(MODULES[room], "lower_bound", scarce)
    short = proofs(model, batch, Budget(problems=200))
    assert {o.rung for o in usual} >= {"alpha-crown", "branch-and-bound"}
    if room in ("sweeps", "tighten", "branching"):
        assert faults[room] > 0
    assert [(o.verdict, o.rung) for o in short] == [(o.verdict, o.rung) for o in usual]


def test_a_clock_that_has_run_out_stops_a_tightening_between_its_portions(
    model: ModelUnderTest, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    prover = Prover(model)
    monkeypatch.setattr(tighten, "ROWS", 200)  # Many small portions.
    region = Region.ball(batch.images[:1].double(), "linf", EPS)
    asked: list[int] = []

    def late() -> bool:
        asked.append(prover.search.meter.passes.backwards)
        return len(asked) > 3

    graph = prover.search
    loose = interval_values(graph, region)
    with torch.no_grad():
        stopped = tighten.tightened(graph, interval_values(graph, region), region, late)
        whole = tighten.tightened(graph, interval_values(graph, region), region)
    assert len(asked) <= 6
    last = graph.unbounded[-1]
    assert bool((stopped.boxes[last].low < whole.boxes[last].low).any())
    for i in loose.boxes:
        assert bool((stopped.boxes[i].low >= loose.boxes[i].low).all())
        assert bool((whole.boxes[i].low >= stopped.boxes[i].low - 1e-6).all())


def test_an_image_without_time_stays_open_after_the_cheap_bounds(model: ModelUnderTest, batch: Batch) -> None:
    outcomes = proofs(model, batch, Budget(RUNGS, seconds=1e-9))
    assert {o.verdict for o in outcomes} >= {"open"}
    assert {o.rung for o in outcomes} <= {None, "interval-bounds", "crown", "crown-tightened"}
    assert all(o.problems == 0 for o in outcomes)
