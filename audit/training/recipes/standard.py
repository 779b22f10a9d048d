"""Training on clean images."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(reference="", adversarial=False, passes=lambda settings, shape: PassCount(1, 1))
def standard(net: nn.Module, step: TrainingStep) -> Iterator[Objective]:
    """Descend the classification loss of clean images.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch.

    Yields:
        One objective.
    """
    yield lambda: classification_step(net, step.images, step)
