"""Hardening a detector: what the recipe descends, and the mAP under attack that chooses the epoch."""

from __future__ import annotations

import torch

from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.training.detection import DetectionModule, DetectionValidator
from audit.training.recipes.detector_pgd import detector_pgd
from audit.training.step import TrainingStep
from tests.made_detectors import DETECTORS, noise_images, some_objects

THREAT = ThreatModel("linf", 8 / 255)


def _module() -> DetectionModule:
    module = DetectionModule(DETECTORS["fcos-small"]())
    module.net.requires_grad_(True)
    return module


def _step(count: int) -> TrainingStep:
    generators = Generators.of([str(i) for i in range(count)], seed=0, purpose="training", device="cpu")
    labels = torch.zeros(count, dtype=torch.long)
    return TrainingStep(
        noise_images(count), labels, generators, lambda a, b: a, THREAT, {}, torch.arange(count), count,
        objects=tuple(some_objects(*[1] * count)),
    )  # fmt: skip


def test_the_objective_is_the_loss_of_attacked_and_clean_images_in_their_shares() -> None:
    net, step = _module(), _step(3)
    net.eval()  # batch norm then gives the same in attack and objective
    (objective,) = detector_pgd(net, step, steps=2, relative_step=0.6, clean_share=0.25)
    with torch.no_grad():
        clean = float(net.losses(step.images, step.objects).mean())
        loss = float(objective().loss)
    attacked = (loss - 0.25 * clean) / 0.75
    assert attacked > clean
    kept = next(iter(step.recipe_state.values()))
    moved = step.images + kept.float()
    assert bool(THREAT.allows(moved.clamp(0, 1), step.images).all())
    with torch.no_grad():
        again = float(net.losses(moved.clamp(0, 1), step.objects).mean())
    assert abs(again - attacked) < 1e-2 * abs(attacked)  # kept in float16
    assert net.forwards == 3 * (2 + 1 + 2 + 1)  # ascent, clean, the objective's two, once more


def test_the_net_is_left_in_training_and_its_weights_learn() -> None:
    net, step = _module(), _step(2)
    net.train()
    (objective,) = detector_pgd(net, step)
    assert net.net.training
    objective().loss.backward()
    assert all(parameter.grad is not None for parameter in net.net.parameters())


def test_map_under_attack_is_measured_where_there_is_an_adversary() -> None:
    net = _module()
    batch = Batch(
        noise_images(4), torch.zeros(4, dtype=torch.long), tuple("abcd"), objects=tuple(some_objects(2, 1, 1, 2))
    )
    alone = DetectionValidator(batch, None, 0, 2, 2)(net)
    both = DetectionValidator(batch, THREAT, 0, 2, 2)(net)
    assert set(alone) == {"clean_map"}
    assert both["clean_map"] == alone["clean_map"]
    assert 0 <= both["robust_map"] <= 1
    assert both == DetectionValidator(batch, THREAT, 0, 2, 2)(net)
