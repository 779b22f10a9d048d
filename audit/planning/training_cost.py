"""What making a model costs: epochs, images, and the passes that its recipe takes for each."""

from __future__ import annotations

import math

from audit.config import TrainingConfig
from audit.core.pass_count import PassCount
from audit.core.registry import find
from audit.planning.plan import Task
from audit.planning.settings import ModelSettings

EXPECTED_STEPS_OF_PROBE = 0.7
"""The share of its steps that the attack on held-out images takes after an epoch: broken ones leave."""


def training_passes(task: Task, *, most: bool) -> PassCount | None:
    """What a cell that makes a model costs in all.

    Args:
        task: A training or a compression.
        most: The most that it can be, or what is expected.

    Returns:
        The passes of the whole cell; None where the recipe declares none.
    """
    settings = ModelSettings.of(task.cell)
    if settings.training is None:
        return PassCount(len(task.examples), 0)  # int8 looks at some images; the others at none
    training = dict(settings.training)
    recipe_settings = training.pop("recipe_settings", {})
    config = TrainingConfig.model_validate(training)
    recipe = find("recipe", config.recipe)
    passes_of = recipe.max_passes if most else recipe.expected_passes
    each = passes_of(recipe.settings(recipe_settings), settings.input_shape)
    if each is None:
        return None
    successor = recipe.facts.get("falls_back_to")
    if most and successor:
        other = find("recipe", successor)
        instead = other.max_passes(other.defaults, settings.input_shape) or each
        each = PassCount(max(each.forwards, instead.forwards), max(each.backwards, instead.backwards))
    return _of_epochs(config, each, len(task.examples), attacked=task.cell.threat is not None, most=most)


def time_budget_of(task: Task) -> float:
    """The seconds that a training may take, by its configuration; infinite where it says nothing.

    Args:
        task: A training or a compression.
    """
    training = ModelSettings.of(task.cell).training or {}
    return float(training.get("time_budget") or math.inf)


def _of_epochs(config: TrainingConfig, each: PassCount, images: int, *, attacked: bool, most: bool) -> PassCount:
    """Every epoch learns the images that are not held out, in whole batches, then looks at those that are."""
    held_out = math.ceil(config.held_out * images)
    learnt = images - math.floor(config.held_out * images) if most else images - held_out
    perturbed = 2 if config.weight_perturbation else 1
    probes = min(config.probe_examples, held_out) if attacked else 0
    steps = config.probe_steps * (1.0 if most else EXPECTED_STEPS_OF_PROBE)
    forwards = learnt * each.forwards * perturbed + held_out + probes * (steps + 1)
    backwards = learnt * each.backwards * perturbed + probes * steps
    return PassCount(math.ceil(config.epochs * forwards), math.ceil(config.epochs * backwards))
