"""Every architecture of the zoo learns for an epoch, clean and against an adversary, and can then be audited."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.models.architecture import ZOO, build
from audit.models.under_test import ModelUnderTest
from audit.training.fit import fit
from audit.training.state import TrainingResult
from tests.training.toy import same_weights, thirds

SIZES = {"cnn-8": 8, "cnn-32": 20, "cnn-150": 24, "resnet-18-small": 8}


def trained(name: str) -> tuple[ModelUnderTest, TrainingResult]:
    size = SIZES.get(name, 12)
    net = build(name, classes=3, input_shape=(1, size, size), seed=0)
    settings = TrainingConfig(recipe="fgsm-rs", epochs=2, batch_size=12, learning_rate=1e-3, schedule="constant")
    made = fit(net, thirds(42, size=size), settings, classes=3, threat=ThreatModel("linf", 0.03))
    net.load_state_dict(made.weights)
    shape = (1, size, size)
    return ModelUnderTest(net, classes="abc", input_shape=shape, mean=made.mean, std=made.std, device="cpu"), made


@pytest.mark.parametrize("name", ZOO)
def test_an_epoch_against_an_adversary_lowers_the_loss_and_the_model_can_be_audited(name: str) -> None:
    model, made = trained(name)
    assert made.history[1]["loss"] < made.history[0]["loss"]
    batch = thirds(9, seed=3, size=model.input_shape[1])
    output = model.loss_gradient(batch.images, batch.labels, lambda z, y: cross_entropy(z, y, reduction="none"))
    assert bool((output.gradient.flatten(1).abs().sum(1) > 0).all())
    assert torch.allclose(output.logits, model.logits(batch.images), atol=1e-5)


@pytest.mark.parametrize("name", ["row-lstm", "self-attention"])
def test_the_same_seed_gives_the_same_bits_without_convolutions_too(name: str) -> None:
    assert same_weights(trained(name)[1].weights, trained(name)[1].weights)
