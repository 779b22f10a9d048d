"""What a training is foretold to cost, held against what it counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from audit.config import TrainingConfig
from audit.core.cell import Cell
from audit.core.registry import find, methods
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.architecture import build
from audit.planning.plan import Slice, Task
from audit.planning.settings import ModelSettings
from audit.planning.training_cost import training_passes
from audit.training.fit import fit

IMAGES = 70


def task_of(recipe: str, config: TrainingConfig, **recipe_settings: Any) -> Task:
    method = find("recipe", recipe)
    settings = ModelSettings(
        architecture="cnn-28",
        classes=("a", "b", "c"),
        input_shape=(1, 28, 28),
        training=config.model_dump(mode="json") | {"recipe_settings": method.settings(recipe_settings)},
    )
    threat = {"norm": "linf", "eps": 0.05} if method.facts["adversarial"] else None
    return Task(
        Cell("training", recipe, settings=settings.dump(), threat=threat), "standard", Slice("train", 0, IMAGES), 0
    )


@pytest.mark.parametrize(
    "recipe", [method.name for method in methods("recipe") if method.facts.get("task") != "detection"]
)
def test_a_training_costs_what_its_recipe_declares(recipe: str) -> None:
    images = torch.rand(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(IMAGES) % 3, tuple(str(number) for number in range(IMAGES)))
    config = TrainingConfig(recipe=recipe, epochs=2, batch_size=21, probe_examples=4, probe_steps=3)
    method = find("recipe", recipe)
    teacher = build("cnn-28", classes=3, input_shape=(1, 28, 28), seed=1) if method.facts.get("teacher") else None
    spent = fit(
        build("cnn-28", classes=3, input_shape=(1, 28, 28), seed=0),
        batch,
        config,
        classes=3,
        threat=ThreatModel("linf", 0.05) if method.facts["adversarial"] else None,
        teacher=teacher,
    ).passes
    task = task_of(recipe, config)
    most, expected = training_passes(task, most=True), training_passes(task, most=False)
    assert most is not None and expected is not None
    assert spent.forwards <= most.forwards and spent.backwards <= most.backwards
    taught = spent.forwards + (2 * 63 if teacher else 0)  # the study counts the teacher beside it
    assert taught / 2 < expected.forwards < 2 * taught
    assert spent.backwards / 2 - 20 < expected.backwards < 2 * spent.backwards + 20


def test_twice_the_epochs_cost_twice_and_perturbed_weights_twice_the_batches() -> None:
    def most(**settings: Any) -> int:
        passes = training_passes(task_of("pgd", TrainingConfig(recipe="pgd", **settings), steps=1), most=True)
        assert passes is not None
        return passes.backwards

    assert most(epochs=6) == 2 * most(epochs=3)
    probes = 3 * 7 * 10  # epochs x held-out images x steps
    assert most(epochs=3, weight_perturbation=0.01) - probes == 2 * (most(epochs=3) - probes)


def test_a_fast_recipe_may_end_as_the_one_it_falls_back_to() -> None:
    config = TrainingConfig(recipe="fgsm-rs", epochs=1)
    most, expected = (training_passes(task_of("fgsm-rs", config), most=most) for most in (True, False))
    instead = training_passes(task_of("pgd", TrainingConfig(recipe="pgd", epochs=1)), most=True)
    assert most == instead and expected is not None and most is not None
    assert expected.backwards < most.backwards
