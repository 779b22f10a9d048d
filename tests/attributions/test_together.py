"""Sharing a queue saves passes and changes no map."""

from __future__ import annotations

import torch

from audit.attributions.explain import explain_images
from audit.attributions.together import explain_together
from audit.models.under_test import ModelUnderTest
from audit.types import Batch


def test_lime_costs_nothing_after_enumerated_shapley_and_maps_are_the_same(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    methods = {"lime": {"samples": 400}, "shap": {}, "saliency": {}}
    images = cnn_batch.images[:4]
    together = explain_together(cnn_model, images, methods=methods, ids=cnn_batch.ids[:4], seed=3)
    apart = {
        name: explain_images(
            cnn_model, images, method=name, baseline="segment-mean", ids=cnn_batch.ids[:4], seed=3, **settings
        )
        for name, settings in methods.items()
    }
    for name, found in apart.items():
        assert torch.allclose(together[name].attributions, found.attributions, atol=1e-6), name
    assert together["lime"].passes.forwards == 0
    assert apart["lime"].passes.forwards > 400
    spent = sum(one.passes.forwards for one in together.values())
    assert spent < 0.75 * sum(one.passes.forwards for one in apart.values())


def test_numpy_arrays_are_taken(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, segments = cnn_batch.images[:2], torch.arange(144).view(12, 12) // 24
    plain = explain_images(
        cnn_model, images, method="shap", segments=segments, baseline=images * 0, targets=cnn_batch.labels[:2]
    )
    arrays = explain_images(
        cnn_model,
        images.numpy(),  # type: ignore[arg-type]
        method="shap",
        segments=segments.numpy(),  # type: ignore[arg-type]
        baseline=(images * 0).numpy(),  # type: ignore[arg-type]
        targets=cnn_batch.labels[:2].numpy(),  # type: ignore[arg-type]
    )
    assert torch.equal(plain.attributions, arrays.attributions)
