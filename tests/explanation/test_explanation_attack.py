"""Moved images stay in the ball, keep their prediction, and move the map further than noise does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.explanation.explanation_attack import (
    manipulate_explanation,
    noise_keeping_label,
    pgd_keeping_label,
    smoothed,
)
from audit.explanation.run import explain_images
from audit.explanation.traced_net import with_module_activations
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def generators(cnn_batch: Batch) -> Generators:
    return Generators.of(cnn_batch.ids, seed=0, purpose="test", device="cpu")


@pytest.mark.parametrize("threat", [ThreatModel("linf", 0.1), ThreatModel("l2", 1.0)], ids=str)
@pytest.mark.parametrize("kind", ["push", "steer", "random"])
def test_prediction_is_kept_within_the_ball(
    cnn_model: ModelUnderTest, cnn_batch: Batch, generators: Generators, threat: ThreatModel, kind: str
) -> None:
    images, labels = cnn_batch.images, cnn_batch.labels
    if kind == "push":
        moved = pgd_keeping_label(cnn_model, images, labels, threat)
    elif kind == "steer":
        moved = manipulate_explanation(cnn_model, images, labels, threat, generators, steps=8)
    else:
        moved = noise_keeping_label(cnn_model, images, labels, threat, generators)
    assert torch.equal(cnn_model.predictions(moved), labels)
    assert bool(threat.allows(moved, images).all())
    assert (moved != images).flatten(1).any(1).sum() >= 8


def test_push_goes_towards_the_boundary_and_stops_before_it(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    def margin(images: Tensor) -> Tensor:
        ordered = cnn_model.logits(images).sort(dim=1).values
        return ordered[:, -1] - ordered[:, -2]

    moved = pgd_keeping_label(cnn_model, cnn_batch.images, cnn_batch.labels, ThreatModel("linf", 0.05))
    assert bool((margin(moved) <= margin(cnn_batch.images)).all())
    assert float(margin(moved).mean()) < 0.7 * float(margin(cnn_batch.images).mean())


def test_steering_turns_the_gradient_further_than_noise(
    cnn_model: ModelUnderTest, cnn_batch: Batch, generators: Generators
) -> None:
    threat = ThreatModel("linf", 0.1)

    def saliency(images: Tensor) -> Tensor:
        found = explain_images(cnn_model, images, method="saliency", targets=cnn_batch.labels).attributions
        assert found is not None
        return found.flatten(1)

    clean = saliency(cnn_batch.images)

    def kept(images: Tensor) -> float:
        return float(torch.cosine_similarity(clean, saliency(images)).mean())

    steered = kept(manipulate_explanation(cnn_model, cnn_batch.images, cnn_batch.labels, threat, generators))
    noise = kept(noise_keeping_label(cnn_model, cnn_batch.images, cnn_batch.labels, threat, generators))
    assert steered < noise - 0.1


def test_smoothed_copy_is_near_the_model(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    smooth = smoothed(with_module_activations(cnn_model.net))(cnn_batch.images)
    assert torch.allclose(smooth, cnn_model.logits(cnn_batch.images), atol=0.1)
    assert not torch.equal(smooth, cnn_model.logits(cnn_batch.images))


def test_a_net_with_attention_can_be_steered(generators: Generators) -> None:
    """Its fused kernels have no second derivative: the plain form of attention is asked for."""
    net = build("self-attention", classes=3, input_shape=(1, 28, 28), seed=0)
    model = ModelUnderTest(net, classes=("a", "b", "c"), input_shape=(1, 28, 28), device="cpu")
    images = torch.rand(len(generators.keys), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    moved = manipulate_explanation(
        model, images, model.predictions(images), ThreatModel("linf", 0.1), generators, steps=2
    )
    assert torch.equal(model.predictions(moved), model.predictions(images)) and not torch.equal(moved, images)
