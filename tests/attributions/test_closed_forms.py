"""On a linear model every attribution has a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audit.explanation.run import explain_images
from audit.masking.baselines import fill_images
from audit.models.under_test import ModelUnderTest

TARGETS = [0, 2, 1, 1]


def by_segment(values: Tensor, segments: Tensor) -> Tensor:
    """Each segment's sum over pixels and channels, painted on its pixels, (N, 1, H, W)."""
    painted = torch.zeros_like(values[:, :1])
    for number in segments.unique():
        inside = segments == number
        painted[:, 0, inside] = values[:, :, inside].sum((1, 2))[:, None]
    return painted


def test_saliency_is_the_weight(linear: ModelUnderTest, images: Tensor, weight: Tensor) -> None:
    found = explain_images(linear, images, method="saliency", targets=TARGETS)
    assert torch.allclose(found.attributions, weight[TARGETS], atol=1e-6)
    absolute = explain_images(linear, images, method="saliency", targets=TARGETS, absolute=True)
    assert torch.allclose(absolute.attributions, weight[TARGETS].abs(), atol=1e-6)


@pytest.mark.parametrize("baseline", [0.0, 0.25, "mean", "blur", "segment-mean"])
def test_integrated_gradients_are_weight_times_difference(
    linear: ModelUnderTest, images: Tensor, weight: Tensor, baseline: float | str
) -> None:
    found = explain_images(linear, images, method="integrated-gradients", targets=TARGETS, baseline=baseline, steps=4)
    zero = explain_images(linear, images, method="integrated-gradients", targets=TARGETS, steps=4)
    reference = fill_images(images, baseline, found.segments)
    assert torch.allclose(found.attributions, weight[TARGETS] * (images - reference), atol=1e-5)
    assert torch.allclose(zero.attributions, weight[TARGETS] * images, atol=1e-5)
    assert float(found.quality["completeness_residual"].max()) < 1e-4
    assert set(found.quality["steps"].tolist()) == {4.0}


COMPILES_FIRST = pytest.param("partition", marks=pytest.mark.slow, id="partition")


@pytest.mark.parametrize("algorithm", ["exact", "kernel", COMPILES_FIRST])
def test_shapley_value_of_a_segment_is_its_sum(
    linear: ModelUnderTest, images: Tensor, weight: Tensor, quarters: Tensor, algorithm: str
) -> None:
    found = explain_images(
        linear, images, method="shap", targets=TARGETS, baseline=0.4, segments=quarters, algorithm=algorithm, samples=40
    )
    assert torch.allclose(found.attributions, by_segment(weight[TARGETS] * (images - 0.4), quarters), atol=1e-5)


def test_lime_is_the_segment_sums_shrunk_by_its_ridge(
    linear: ModelUnderTest, images: Tensor, weight: Tensor, quarters: Tensor
) -> None:
    found = explain_images(
        linear, images, method="lime", targets=TARGETS, baseline=0.4, segments=quarters, samples=4_000
    )
    expected = by_segment(weight[TARGETS] * (images - 0.4), quarters)
    assert torch.allclose(found.attributions, expected, rtol=2e-2, atol=5e-3)
    assert float(found.quality["r2"].min()) > 0.999


def test_explained_output_and_target_change_the_answer(linear: ModelUnderTest, images: Tensor, weight: Tensor) -> None:
    probabilities = linear.logits(images).softmax(1)[:, 1]
    mixed = (linear.logits(images).softmax(1)[:, :, None, None, None] * weight).sum(1)
    found = explain_images(linear, images, method="saliency", targets=1, output="probability")
    expected = probabilities.view(-1, 1, 1, 1) * (weight[1] - mixed)
    assert torch.allclose(found.attributions, expected, atol=1e-6)
    logarithm = explain_images(linear, images, method="saliency", targets=1, output="log-probability")
    assert torch.allclose(logarithm.attributions, weight[1] - mixed, atol=1e-6)


def test_default_target_is_the_prediction(linear: ModelUnderTest, images: Tensor) -> None:
    found = explain_images(linear, images, method="saliency")
    assert found.targets.tolist() == linear.logits(images).argmax(1).tolist()
