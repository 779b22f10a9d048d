"""How many verdicts hang on the runtime: held against float64, and found where they are planted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bare_context import bare_context
from torch import Tensor, nn

from audit.adversarial.run_battery import run_battery
from audit.adversarial.runtime_rounding import ROUNDINGS, runtime_rounding
from audit.core.cell import Cell
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.losses import margin
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import AuditPlan, Slice, Task
from audit.results.run_results import RunResults
from audit.topics.robustness.section import runtime_verdicts
from audit.topics.robustness.study import robustness

EPS = 0.05
THREAT = ThreatModel("linf", EPS)


def on_the_boundary(model: ModelUnderTest, start: Tensor, end: Tensor) -> Tensor:
    """The last image of the start's class on each way to another image, to the last bit."""
    labels = model.predictions(start)
    low, high = torch.zeros(len(start)), torch.ones(len(start))
    for _ in range(30):
        middle = (low + high) / 2
        same = model.predictions(torch.lerp(start, end, middle[:, None, None, None])) == labels
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return torch.lerp(start, end, low[:, None, None, None])


def test_margins_of_float64_are_within_it_and_flips_lie_inside(cnn_model: ModelUnderTest) -> None:
    """The oracle of rounding: the same net in double precision, on images where neighbouring numbers decide."""
    noise = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    labels = cnn_model.predictions(noise)
    ends = torch.stack([noise[(labels != label).nonzero().flatten()[i % 5]] for i, label in enumerate(labels)])
    edge = on_the_boundary(cnn_model, noise, ends)
    goal = Batch(edge, labels, tuple(map(str, range(60)))).target_mask(4)
    exact = copy.deepcopy(cnn_model.net).double()(edge.double())
    single, double = margin(cnn_model.logits(edge), goal), margin(exact, goal)
    allowance = runtime_rounding(cnn_model, edge)
    assert allowance is not None and allowance < 1e-4 * exact.abs().max()
    assert ((single.double() - double).abs() <= allowance).all()
    flips = (single > 0) != (double > 0)
    assert flips.any(), "bisection ends where rounding decides"
    assert (single[flips].abs() <= allowance).all() and single.abs().max() > allowance / 100


def test_no_bound_is_stated_where_there_is_none(cnn_model: ModelUnderTest) -> None:
    images = torch.rand(4, 1, 12, 12)
    assert runtime_rounding(cnn_model, images[:0]) is None
    cnn_model.module.draws = 4
    assert runtime_rounding(cnn_model, images) is None
    cnn_model.module.draws = 1
    cnn_model.runtime = nn.Identity()
    assert runtime_rounding(cnn_model, images) is None


def test_it_follows_the_type_of_the_net(cnn_model: ModelUnderTest) -> None:
    images = torch.rand(4, 1, 12, 12)
    largest = float(cnn_model.logits(images).abs().max())
    single = runtime_rounding(cnn_model, images)
    assert single is not None and 1 <= single / (2 * ROUNDINGS * 2**-23 * largest) < 4
    cnn_model.net.half()
    cnn_model.module.input_type = torch.float16
    half = runtime_rounding(cnn_model, images)
    assert half is not None and half >= 2 * ROUNDINGS * 2**-10 * largest * 0.9


@pytest.fixture
def planted(linear_model: ModelUnderTest) -> Batch:
    """Three images of a linear model: one that no change of eps breaks, one that a change of eps brings to the boundary
    itself, one that is broken with room to spare.
    """
    weight = linear_model.net[1].weight[1] - linear_model.net[1].weight[0]
    direction = weight.sign().view(1, 1, 6, 6) * 2.0**-10
    middle = torch.full((1, 1, 6, 6), 0.5)
    steps = [round(EPS * 2**10) + further for further in (20, 0, -20)]
    images = torch.cat([middle + step * direction for step in steps])
    return Batch(images, linear_model.predictions(images), ("far", "planted", "near"))


def test_a_planted_image_within_rounding_is_counted_and_no_other(
    linear_model: ModelUnderTest, planted: Batch, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))
    eps = round(EPS * 2**10) / 2**10
    cell = Cell("robustness", "quick", settings={"eps": [eps]}, threat={"norm": "linf", "eps": eps})
    evidence = robustness(bare_context(linear_model, planted, cell), cell)
    task = Task(cell, "standard", Slice("test", 0, 3), 0)
    verdicts = runtime_verdicts(RunResults(AuditPlan((task,)), {cell.key: evidence}).entries("robustness"))
    assert verdicts is not None and verdicts.n == 3
    assert verdicts.broken + verdicts.unbroken == 1 and verdicts.nearest <= verdicts.rounding
    margins = evidence.arrays["margin"]
    assert margins[0] < -1e-3 and abs(margins[1]) <= verdicts.rounding and margins[2] > 1e-3


def test_the_margin_is_the_largest_met_within_the_eps_of_the_verdict(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """A larger ball of the curve adds nothing to the verdict's own."""
    alone = run_battery(cnn_model, cnn_batch, "linf", [EPS], seed=3)
    curve = run_battery(cnn_model, cnn_batch, "linf", [EPS, 0.5], headline=EPS, seed=3)
    assert torch.equal(alone.margin, curve.margin)
    assert np.array_equal((alone.margin > 0).numpy(), ~alone.robust.numpy())
    goal = cnn_batch.target_mask(4)
    assert (alone.margin >= margin(cnn_model.logits(cnn_batch.images), goal)).all()
