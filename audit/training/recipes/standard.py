"""Training on the images as they are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.core.registry import recipe
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(reference="", adversarial=False)
def standard(net: nn.Module, lesson: TrainingStep) -> Iterator[Objective]:
    """Descend the classification loss of clean images."""
    yield lambda: classification_step(net, lesson.images, lesson)
