"""Maps of a known place against masks of a known place: the shares follow by counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bare_context import bare_context
from torch import Tensor

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import AuditPlan, Slice, Task
from audit.results.run_results import RunResults
from audit.topics.localisation.check import localisation as check
from audit.topics.localisation.study import localisation

CELL = Cell("localisation", "saliency", inputs={"explanation": "e"})


def measured(model: ModelUnderTest, maps: Tensor, masks: Tensor | None) -> Evidence:
    batch = Batch(
        torch.zeros(len(maps), 1, 12, 12), torch.zeros(len(maps), dtype=torch.int64), tuple(map(str, range(len(maps))))
    )
    explained = Evidence(CELL, "measured", arrays={"attributions": maps.numpy()})
    context = replace(bare_context(model, replace(batch, masks=masks), CELL), evidence=lambda name: explained)
    return localisation(context, CELL)


@pytest.fixture
def maps() -> Tensor:
    """Three quarters of the positive attribution in the upper half, the highest pixel among it; some is negative."""
    maps = torch.zeros(4, 1, 12, 12)
    maps[:, 0, 0, 0], maps[:, 0, 11, 0], maps[:, 0, 11, 1] = 3.0, 1.0, -9.0
    return maps


def test_the_shares_are_those_one_counts(cnn_model: ModelUnderTest, maps: Tensor) -> None:
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[0, :6], masks[1, 6:], masks[2, 0, 0] = True, True, True
    found = measured(cnn_model, maps, masks)
    nan = np.nan
    for name, expected in {
        "relevance_mass": [0.75, 0.25, 0.75, nan],
        "pointing_game": [1, 0, 1, nan],
        "mask_share": [0.5, 0.5, 1 / 144, nan],
    }.items():
        assert np.array_equal(found.measurement(name).per_example, np.array(expected), equal_nan=True), name
    assert found.measurement("relevance_rank").per_example[2] == 1 and found.facts["masked"] == 3


@pytest.mark.parametrize("masks", [None, torch.zeros(4, 12, 12, dtype=torch.bool)])
def test_without_masks_there_is_nothing_to_hold_a_map_against(
    masks: Tensor | None, cnn_model: ModelUnderTest, maps: Tensor
) -> None:
    found = measured(cnn_model, maps, masks)
    assert found.status == "not_applicable" and "has a mask" in str(found.reason)


@pytest.mark.parametrize(
    ("rows", "images", "verdict"),
    [(slice(0, 6), 40, "pass"), (slice(6, 12), 40, "warn"), (slice(0, 6), 4, "inconclusive")],
)
def test_the_verdict_compares_with_the_masks_area(
    rows: slice, images: int, verdict: str, cnn_model: ModelUnderTest
) -> None:
    maps = torch.rand(images, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    maps[:, :, :6] *= 3
    masks = torch.zeros(images, 12, 12, dtype=torch.bool)
    masks[1:, rows] = True
    evidence = measured(cnn_model, maps, masks)
    task = Task(CELL, "standard", Slice("test", 0, images), 0)
    (found,) = check(RunResults(AuditPlan((task,)), {CELL.key: evidence}), "standard", load_config())
    assert found.verdict == verdict and found.values["n"] == images - 1
    assert found.interval is not None and found.interval.estimate == pytest.approx(
        0.25 if rows.start == 0 else -0.25, abs=0.03
    )
