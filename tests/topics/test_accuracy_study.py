from __future__ import annotations

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.accuracy.study import accuracy

CELL = Cell("accuracy", "clean")


def test_accuracy_keeps_logits_labels_and_the_cost(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    wrong = Batch(cnn_batch.images, (cnn_batch.labels + (torch.arange(10) < 3)) % 4, cnn_batch.ids)
    found = accuracy(bare_context(cnn_model, wrong, CELL), CELL)
    assert found.measurement("correct").per_example.tolist() == [0.0] * 3 + [1.0] * 7
    np.testing.assert_array_equal(found.arrays["logits"], cnn_model.logits(wrong.images).numpy())
    assert found.arrays["labels"].dtype == np.int64
    assert (found.forwards, found.backwards) == (10, 0)


def test_accuracy_stops_when_asked(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    with pytest.raises(Interrupted, match="resumes"):
        accuracy(bare_context(cnn_model, cnn_batch, CELL, stopping=lambda: True), CELL)
