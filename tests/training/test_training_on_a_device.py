"""Every registered recipe trains on the pretended device, to the weights of the CPU, and seldom waits for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.config.training import AugmentationConfig
from audit.core.method import Method
from audit.core.registry import methods
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.training.fit import fit
from tests.made_detectors import DETECTORS, noise_images, some_objects
from tests.pretended_device import ELSEWHERE, PretendedDevice, on_both
from tests.training.toy import thirds, tiny_net

EVERY = [pytest.param(method, id=method.name) for method in methods("recipe")]
SHORT = TrainingConfig(
    epochs=1,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.005,
    held_out=0.1,
    probe_examples=8,
    probe_steps=2,
    averaging=0.9,
    precision="float32",
)
BALL = ThreatModel("l2", 0.5)
"""Where a step follows the gradient and not its signs, which rounding turns."""


def detection_batch() -> Batch:
    ids = tuple(f"image {number}" for number in range(4))
    objects = tuple(some_objects(1, 2, 1, 1))
    return Batch(noise_images(4), torch.zeros(4, dtype=torch.long), ids, objects=objects)


def trained(recipe: Method, device: torch.device, **changes: Any) -> Tensor:
    """The weights as one vector, on the device; a net of batch norm, dropout and the other pieces a recipe meets."""
    settings = SHORT.model_copy(update={"recipe": recipe.name, **changes})
    threat = ThreatModel("linf", 0.05) if recipe.facts.get("proves") else BALL
    if recipe.facts.get("task") == "detection":
        settings = settings.model_copy(update={"batch_size": 2, "averaging": 0.0})
        outcome = fit(DETECTORS["fcos-small"](), detection_batch(), settings, classes=3, threat=threat, device=device)
    else:
        teacher = tiny_net(seed=3).eval().to(device)
        net = tiny_net(norm=not recipe.facts.get("proves"))
        outcome = fit(
            net, thirds(40), settings, classes=3, threat=threat, device=device, mean=0.0, std=1.0, teacher=teacher
        )
    floats = [value.flatten() for value in outcome.weights.values() if value.is_floating_point()]
    return torch.cat(floats).to(device)


@pytest.mark.parametrize("recipe", EVERY)
def test_a_recipe_trains_on_another_device_to_the_same_weights(recipe: Method) -> None:
    here, there = on_both(lambda device: trained(recipe, device))
    assert (here - there).abs().max() <= 1e-3 * here.abs().max()


def test_all_that_a_training_may_have_works_on_another_device() -> None:
    (fast,) = [method for method in methods("recipe") if method.name == "fgsm-rs"]
    rich = {"shares": 2, "weight_perturbation": 0.01, "clip_gradient": 1.0, "dropout": 0.0, "l1": 1e-5, "l2": 1e-5}
    here, there = on_both(lambda device: trained(fast, device, augmentation=AugmentationConfig(crop=1), **rich))
    assert (here - there).abs().max() <= 1e-3 * here.abs().max()


@pytest.mark.parametrize("recipe", ["standard", "pgd"])
def test_steps_of_a_training_do_not_wait_for_the_device(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read every twenty steps and once an epoch; so an epoch of twice the steps waits no more often."""
    row = {"recipe": recipe, "loss": 1.0, "clean_accuracy": 1.0, "robust_accuracy": 1.0}
    monkeypatch.setattr("audit.training.loop._validate", lambda setup, state: {"epoch": state.epoch + 1, **row})
    waits = []
    for images in (40, 72):
        with PretendedDevice() as pretended:
            net = nn.Sequential(*tiny_net(norm=True))
            settings = SHORT.model_copy(update={"recipe": recipe, "batch_size": 8, "held_out": 8 / images})
            fit(net, thirds(images), settings, classes=3, threat=ThreatModel("linf", 0.1), device=ELSEWHERE)
            waits.append(sum(pretended.host_reads.values()))
    assert waits[0] == waits[1]
