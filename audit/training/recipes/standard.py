"""Training on the images as they are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.registry import recipe
from audit.training.lesson import Lesson, Objective, classify


@recipe(reference="", adversarial=False)
def standard(net: nn.Module, lesson: Lesson) -> Iterator[Objective]:
    """Descend the classification loss of clean images."""
    yield lambda: classify(net, lesson.images, lesson)
