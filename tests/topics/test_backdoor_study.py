from __future__ import annotations

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.backdoor.study import backdoor

CELL = Cell("backdoor", "smallest-triggers", settings={"steps": 20, "batch": 4}, seed=1)


@pytest.fixture
def evidence(cnn_model: ModelUnderTest, cnn_batch: Batch) -> Evidence:
    return backdoor(bare_context(cnn_model, cnn_batch, CELL), CELL)


def test_every_patch_is_scored_on_images_it_was_not_made_on(
    evidence: Evidence, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    unseen, labels = cnn_batch.images[1::2], cnn_batch.labels[1::2]
    before = cnn_model.predictions(unseen)
    assert evidence.facts["made_on"] == len(cnn_batch.images[0::2])
    for label, row in enumerate(evidence.facts["triggers"]):
        opacity = torch.from_numpy(evidence.arrays["masks"][label])
        stamped = unseen * (1 - opacity) + opacity * torch.from_numpy(evidence.arrays["patterns"][label])
        elsewhere = (before != label) & (labels != label)
        assert row["tried"] == int(elsewhere.sum())
        assert row["moved"] == int(((cnn_model.predictions(stamped) == label) & elsewhere).sum())
        assert row["area"] == pytest.approx(float(opacity.mean()), rel=1e-5)


def test_the_half_it_was_made_on_has_no_score(evidence: Evidence, cnn_batch: Batch) -> None:
    moved = evidence.measurement("moved").per_example
    assert len(moved) == len(cnn_batch) and np.isnan(moved[0::2]).all() and not np.isnan(moved[1::2]).any()


def test_the_cost_is_counted(evidence: Evidence, cnn_model: ModelUnderTest) -> None:
    assert evidence.backwards == 20 * 4 * len(cnn_model.classes) and evidence.forwards > evidence.backwards
