"""Judging and agreement as the runner calls them: right maps pass, wrong ones are shown up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.topics.agreement.study import agreement
from audit.topics.attribution_quality.study import attribution_quality
from audit.topics.explanations.study import explanation

QUICK = {"infidelity_samples": 24, "sensitivity_samples": 2, "seeds": 1}


def explained(model: ModelUnderTest, batch: Batch, attribution: str, **settings: Any) -> Evidence:
    cell = Cell("explanation", attribution, settings=settings)
    return explanation(bare_context(model, batch, cell), cell)


def judged(model: ModelUnderTest, batch: Batch, maps: Evidence) -> Evidence:
    cell = Cell("attribution-quality", maps.cell.method, settings={**maps.cell.settings, **QUICK})
    context = replace(bare_context(model, batch, cell), evidence={"explanation": maps}.__getitem__)
    return attribution_quality(context, cell)


@pytest.fixture
def linear_batch(linear_model: ModelUnderTest) -> Batch:
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(2)) * 0.6 + 0.2
    return Batch(images, linear_model.predictions(images), tuple("abcdefgh"))


def test_a_linear_models_saliency_is_faithful_steady_and_depends_on_the_weights(
    linear_model: ModelUnderTest, linear_batch: Batch
) -> None:
    found = judged(linear_model, linear_batch, explained(linear_model, linear_batch, "saliency"))
    assert found.status == "measured"
    assert found.measurement("infidelity").per_example.max() < 0.01
    for control in ("random", "edges", "blurred"):
        assert found.measurement(f"infidelity_{control}").mean > 0.3
        assert f"road_area_{control}" in {one.name for one in found.measurements}
    assert found.measurement("max_sensitivity").per_example.max() < 1e-5
    assert abs(found.measurement("randomisation_similarity").mean) < 0.5
    assert "seed_stability" not in {one.name for one in found.measurements}
    assert "Controls: noise" in found.facts["protocol"]


def test_a_map_that_ignores_the_weights_fails_the_randomisation_check(
    cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit.metrics.pixel_ranking import edge_map
    from audit.topics.attribution_quality import study as room

    honest = judged(cnn_model, cnn_batch, explained(cnn_model, cnn_batch, "saliency"))
    edges = edge_map(cnn_batch.images)
    blind = explained(cnn_model, cnn_batch, "saliency")
    blind = replace(blind, arrays={**blind.arrays, "attributions": edges.numpy()})
    monkeypatch.setattr(room, "attributions_or_raise", lambda found: edges)
    ignorant = judged(cnn_model, cnn_batch, blind)
    assert np.allclose(ignorant.measurement("randomisation_similarity").per_example, 1)
    assert honest.measurement("randomisation_similarity").mean < 0.5
    assert honest.measurement("infidelity").mean < 0.7 * ignorant.measurement("infidelity").mean
    assert honest.arrays["randomisation_curve"].shape == (10, 3)


def test_methods_that_draw_report_their_stability(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    batch = cnn_batch.select(torch.arange(3))
    shaky, steady = (
        judged(cnn_model, batch, explained(cnn_model, batch, "lime", method={"samples": samples}))
        for samples in (12, 400)
    )
    assert shaky.measurement("seed_stability").mean < steady.measurement("seed_stability").mean <= 1


def test_agreement_compares_every_two_and_names_who_is_missing(
    linear_model: ModelUnderTest, linear_batch: Batch
) -> None:
    read = {name: explained(linear_model, linear_batch, name) for name in ("saliency", "input-x-gradient", "grad-cam")}
    cell = Cell("agreement", "rank", inputs={name: "key" for name in read})
    context = replace(bare_context(linear_model, linear_batch, cell), evidence=read.__getitem__)
    found = agreement(context, cell)
    assert found.facts == {"methods": ["input-x-gradient", "saliency"], "left_out": ["grad-cam"]}
    assert 0.5 < found.arrays["matrix"][0, 1] < 1

    def as_the_engine_reads(name: str) -> Evidence:
        if read[name].status == "not_applicable":
            raise NotApplicable(read[name].reason)
        return read[name]

    assert agreement(replace(context, evidence=as_the_engine_reads), cell).facts == found.facts
    alone = replace(context, evidence={**read, "saliency": read["grad-cam"]}.__getitem__)
    assert agreement(alone, cell).status == "not_applicable"
