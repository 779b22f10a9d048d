from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import Interrupted, UsageError
from audit.core.registry import find
from audit.core.types import Batch, concatenate
from audit.models.under_test import ModelUnderTest
from audit.topics.corruptions.study import corruption
from tests.memory_faults import MEMORY_FAULTS


def cell(method: str, severity: int, seed: int = 0) -> Cell:
    return Cell("corruption", method, settings={"severity": severity}, seed=seed)


def test_correctness_is_that_of_the_corrupted_images(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    name = cell("gaussian-noise", 5)
    evidence = corruption(bare_context(cnn_model, cnn_batch, name), name)
    correct = evidence.measurement("correct").per_example
    assert correct.shape == (10,) and set(np.unique(correct)) <= {0.0, 1.0}
    assert evidence.arrays["distortion"].min() > 0.05
    assert (evidence.forwards, evidence.backwards) == (10, 0)


def test_labels_the_model_never_gives_are_never_correct(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    wrong = Batch(cnn_batch.images, (cnn_batch.labels + 1) % 4, cnn_batch.ids)
    right, name = cnn_batch, cell("gaussian-noise", 1)
    both = [corruption(bare_context(cnn_model, b, name), name).measurement("correct").mean for b in (right, wrong)]
    assert both[0] > 0.7 and both[0] + both[1] <= 1


def test_the_draws_follow_the_example_and_the_seed(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    order = torch.tensor([4, 9, 1])
    name = cell("gaussian-noise", 3)
    whole = corruption(bare_context(cnn_model, cnn_batch, name), name).arrays["distortion"]
    part = corruption(bare_context(cnn_model, cnn_batch.select(order), name), name).arrays["distortion"]
    np.testing.assert_array_equal(part, whole[order.numpy()])
    other = cell("gaussian-noise", 3, seed=1)
    assert (corruption(bare_context(cnn_model, cnn_batch, other), other).arrays["distortion"] != whole).all()


def test_many_images_are_corrupted_in_strides_with_the_same_answer(
    cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.topics.corruptions.study._VALUES", 70 * 144)
    many = concatenate([cnn_batch] * 30)
    name = cell("gaussian-noise", 2)
    evidence = corruption(bare_context(cnn_model, many, name), name)
    first = evidence.arrays["distortion"].reshape(30, 10)
    assert (first == first[0]).all() and evidence.forwards == 300


def test_a_corruption_that_runs_out_of_memory_takes_fewer_images_to_the_same_numbers(
    cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of fault in turn, each time for more than a 32nd of the images."""
    many, name, method = concatenate([cnn_batch] * 64), cell("defocus-blur", 2), find("corruption", "defocus-blur")
    expected, faults = corruption(bare_context(cnn_model, many, name), name), list(MEMORY_FAULTS.values())
    raised = []

    def hungry(images: Tensor, *args: Any) -> Tensor:
        if len(images) > 4:
            raised.append(len(images))
            raise faults[(len(raised) - 1) % len(faults)]
        changed: Tensor = method.function(images, *args)
        return changed

    starved = dataclasses.replace(method, function=hungry)
    monkeypatch.setattr("audit.topics.corruptions.study.find", lambda kind, name: starved)
    found = corruption(bare_context(cnn_model, many, name), name)
    assert len(raised) >= len(faults)
    np.testing.assert_array_equal(found.measurement("correct").per_example, expected.measurement("correct").per_example)
    np.testing.assert_allclose(found.arrays["distortion"], expected.arrays["distortion"], rtol=1e-6)


def test_an_unknown_corruption_lists_those_there_are(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    name = cell("gausian-noise", 1)
    with pytest.raises(UsageError, match="gaussian-noise"):
        corruption(bare_context(cnn_model, cnn_batch, name), name)


def test_a_stop_is_obeyed(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    name = cell("gaussian-noise", 1)
    with pytest.raises(Interrupted):
        corruption(bare_context(cnn_model, cnn_batch, name, stopping=lambda: True), name)
