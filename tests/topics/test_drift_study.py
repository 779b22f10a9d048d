"""Drift as the runner calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import UsageError
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.drift.study import drift
from audit.topics.explanations.study import explanation

THREAT = {"norm": "linf", "eps": 0.1}


def explained(model: ModelUnderTest, batch: Batch, attribution: str, **settings: Any) -> Evidence:
    cell = Cell("explanation", attribution, settings=settings)
    return explanation(bare_context(model, batch, cell), cell)


def drifted(
    model: ModelUnderTest, batch: Batch, attribution: str, inputs: dict[str, Evidence], kind: str, **settings: Any
) -> Evidence:
    cell = Cell("drift", attribution, settings={"kind": kind, **settings}, threat=THREAT)
    return drift(replace(bare_context(model, batch, cell), evidence=inputs.__getitem__), cell)


@pytest.mark.parametrize("kind", ["constant-label", "manipulation"])
def test_linear_models_saliency_never_moves(linear_model: ModelUnderTest, kind: str) -> None:
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    batch = Batch(images, linear_model.predictions(images), tuple("abcdef"))
    clean = explained(linear_model, batch, "saliency")
    found = drifted(linear_model, batch, "saliency", {"explanation": clean}, kind)
    assert found.status == "measured", found.reason
    moved = ~np.isnan(found.measurement("agreement_random").per_example)
    assert moved.sum() >= 3
    assert np.allclose(found.measurement("agreement_random").per_example[moved], 1)
    assert np.nanmax(found.measurement("shift").per_example, initial=0) < 1e-5


@pytest.mark.parametrize("kind", ["constant-label", "manipulation"])
def test_maps_of_moved_images_are_compared_with_the_clean_ones(
    cnn_model: ModelUnderTest, cnn_batch: Batch, kind: str
) -> None:
    clean = explained(cnn_model, cnn_batch, "saliency")
    found = drifted(cnn_model, cnn_batch, "saliency", {"explanation": clean}, kind)
    images = torch.from_numpy(found.arrays["images"])
    assert torch.equal(cnn_model.predictions(images), cnn_batch.labels)
    moved = (images != cnn_batch.images).flatten(1).any(1).numpy()
    agreement = found.measurement("agreement").per_example
    assert found.facts["moved"] == moved.sum() > 5
    assert np.isnan(agreement[~moved]).all()
    assert agreement[moved].min() < 0.99 and (agreement[moved] <= 1 + 1e-12).all()
    again = explained(cnn_model, replace(cnn_batch, images=images), "saliency")
    assert np.array_equal(again.arrays["attributions"], found.arrays["attributions"])
    assert "linf 0.1" in found.facts["threat"]


def test_between_models_counts_equal_predictions_only(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    first = explained(cnn_model, cnn_batch, "saliency")
    targets = first.arrays["targets"].copy()
    targets[:4] += 1
    second = replace(first, arrays={**first.arrays, "targets": targets})
    found = drifted(cnn_model, cnn_batch, "saliency", {"first": first, "second": second}, "between-models")
    agreement = found.measurement("agreement").per_example
    assert np.isnan(agreement[:4]).all()
    assert np.allclose(agreement[4:], 1)
    assert found.facts["same_prediction"] == 6


def test_reasons_pass_through_and_an_unknown_kind_lists_them(linear_model: ModelUnderTest, cnn_batch: Batch) -> None:
    batch = Batch(torch.rand(2, 1, 6, 6), torch.zeros(2, dtype=torch.int64), ("a", "b"))
    missing = explained(linear_model, batch, "grad-cam")
    found = drifted(linear_model, batch, "grad-cam", {"explanation": missing}, "constant-label")
    assert found.status == "not_applicable"
    assert "no convolution" in str(found.reason)
    with pytest.raises(UsageError, match=r"Known: between-models, constant-label, manipulation"):
        drifted(linear_model, batch, "saliency", {}, "pgd")
