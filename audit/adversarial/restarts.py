"""Attempts one after another, each on the examples that the ones before it left unbroken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Batch, Images, PassCount
from audit.models.losses import is_adversarial_logits
from audit.models.under_test import ModelUnderTest

Attempt: TypeAlias = Callable[[Batch, Generators, int, Tensor], Images]
"""`(examples, generators, number, index) -> proposals`; `number` counts attempts from 0, and `index` int64 says
where the examples stand in the whole batch."""


def with_restarts(
    model: ModelUnderTest, batch: Batch, generators: Generators, attempt: Attempt, *, attempts: int
) -> Images:
    """The first misclassified proposal of each example, else its last one. The last attempt is left for the verifier to
    judge; the ones before it cost one forward an example.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        generators: One random generator an example.
        attempt: Makes proposals for the examples that are left.
        attempts: How many, at least 1.

    Returns:
        Proposals, float32 (N, C, H, W).
    """
    remaining = torch.arange(len(batch), device=batch.labels.device)
    answers = attempt(batch, generators.fork(0), 0, remaining)
    for number in range(1, attempts):
        remaining = remaining[~is_adversarial(model, batch.select(remaining), _rows(answers, remaining))]
        if len(remaining) == 0:
            break
        proposals = attempt(batch.select(remaining), _only(generators, remaining).fork(number), number, remaining)
        answers[remaining.to(answers.device)] = proposals.to(answers.device)
    return answers


def passes_of_restarts(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """The most that one image costs an attack of `restarts` searches of `steps` gradient steps.

    Args:
        settings: All settings of the attack.
        shape: Of an image, (C, H, W); the number of passes does not depend on it.
    """
    return PassCount(settings["restarts"] * (settings["steps"] + 1), settings["restarts"] * settings["steps"])


def passes_of_targets(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """The most that one image costs an attack of `steps` gradient steps towards each of `targets` classes.

    Args:
        settings: All settings of the attack.
        shape: Of an image, (C, H, W); the number of passes does not depend on it.
    """
    return PassCount(settings["targets"] * (settings["steps"] + 1) + 1, settings["targets"] * settings["steps"])


def is_adversarial(model: ModelUnderTest, batch: Batch, images: Images) -> Tensor:
    """Whether the model's prediction on each image is in its example's goal, bool (N,) on the batch's device.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    goal = batch.target_mask(len(model.classes))
    return is_adversarial_logits(model.logits(images).to(goal.device), goal)


def _rows(images: Images, index: Tensor) -> Images:
    return images[index.to(images.device)]


def _only(generators: Generators, index: Tensor) -> Generators:
    return generators.select(index.to(generators.keys.device))
